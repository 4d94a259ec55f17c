-- What did the market look like in the latest full state?
WITH latest AS (
    SELECT max(frame) AS frame FROM snapshots
)
SELECT
    prices.frame,
    prices.time_utc,
    prices.instrument,
    instruments.kind,
    instruments.underlying,
    instruments.expiry_utc,
    instruments.strike,
    instruments.option_type,
    prices.decidable,
    prices.index_price,
    prices.mark_price,
    prices.forward,
    prices.implied_vol
FROM prices
JOIN latest USING (frame)
JOIN instruments USING (instrument)
ORDER BY instruments.underlying, instruments.expiry_utc NULLS FIRST, instruments.strike, prices.instrument;
