-- One row an account and asset or instrument that a settlement period changed: the integers that were settled.
CREATE OR REPLACE VIEW net_changes AS
SELECT
    frame,
    time_ns,
    time_utc,
    period,
    account,
    number,
    kind,
    asset,
    units,
    instrument,
    lots,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
