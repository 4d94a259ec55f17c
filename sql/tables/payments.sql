-- One row a funding payment or expiry settlement of a customer: units received, negative if paid.
CREATE OR REPLACE VIEW payments AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    row_index,
    kind,
    instrument,
    lots,
    asset,
    units,
    amount,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
