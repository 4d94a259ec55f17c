-- One row an account, underlying, expiry and full state: sums over its decidable positions, in the numeraire per
-- unit that the column names.
CREATE OR REPLACE VIEW greeks AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    underlying,
    expiry_ns,
    expiry_utc,
    delta_per_price,
    gamma_per_price_squared,
    vega_per_vol,
    theta_per_day,
    rho_per_rate,
    positions,
    undecidable_positions,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
