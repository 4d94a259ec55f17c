-- One row an asset and full state: its price in the numeraire and its collateral haircut.
CREATE OR REPLACE VIEW asset_prices AS
SELECT
    frame,
    time_ns,
    time_utc,
    asset,
    decidable,
    price,
    haircut,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
