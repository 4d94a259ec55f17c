-- One row a time that decisions on an account stopped or went on, because something that it holds lost or
-- regained its price.
CREATE OR REPLACE VIEW suspensions AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    row_index,
    suspended,
    tier,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
