-- One row a time that the price of an asset or an instrument became unusable, or usable again.
CREATE OR REPLACE VIEW feed_status AS
SELECT
    frame,
    time_ns,
    time_utc,
    row_index,
    kind,
    name,
    fresh,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
