-- How exposed are the customers together, by underlying and expiry, in the latest full state?
-- System accounts (numbers below 8) are left out: with the house every net is zero.
WITH latest AS (
    SELECT max(frame) AS frame FROM snapshots
),
customers AS (
    SELECT greeks.*
    FROM greeks
    JOIN latest USING (frame)
    WHERE number >= 8
)
SELECT
    frame,
    time_utc,
    underlying,
    expiry_utc,
    count(*) AS accounts,
    sum(positions) AS positions,
    sum(undecidable_positions) AS undecidable_positions,
    sum(delta_per_price) AS delta_per_price,
    sum(abs(delta_per_price)) AS gross_delta_per_price,
    sum(gamma_per_price_squared) AS gamma_per_price_squared,
    sum(vega_per_vol) AS vega_per_vol,
    sum(theta_per_day) AS theta_per_day,
    sum(rho_per_rate) AS rho_per_rate
FROM customers
GROUP BY frame, time_utc, underlying, expiry_utc
ORDER BY underlying, expiry_utc NULLS LAST;
