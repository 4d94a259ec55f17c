-- One row an asset and full state: its price in the numeraire with the oracle's confidence over it, its realised vol
-- (annualised; 0 while nothing has been sampled), and the haircut that both and the parameters make.
CREATE OR REPLACE VIEW asset_prices AS
SELECT
    frame,
    time_ns,
    time_utc,
    asset,
    decidable,
    price,
    confidence_ratio,
    realised_vol,
    haircut,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
