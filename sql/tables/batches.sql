-- One row a settlement batch; frame is the barrier that closed it.
CREATE OR REPLACE VIEW batches AS
SELECT
    frame,
    time_ns,
    time_utc,
    batch,
    period,
    first_frame,
    previous_root,
    new_root,
    order_commitment,
    deltas,
    accounts,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
