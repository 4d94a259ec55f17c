-- One row a listed asset; frame is the one that listed it.
CREATE OR REPLACE VIEW assets AS
SELECT
    frame,
    time_ns,
    time_utc,
    asset,
    asset_index,
    decimals,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
