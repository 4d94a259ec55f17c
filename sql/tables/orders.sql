-- One row an order event: a liquidation order opened, grown or cancelled. lots is the signed change of position
-- that is wanted.
CREATE OR REPLACE VIEW orders AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    row_index,
    action,
    instrument,
    lots,
    quantity,
    order_lots_before,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
