-- One row a refused input, with its bytes; frame is the barrier of the period in which it was refused.
CREATE OR REPLACE VIEW dead_letters AS
SELECT
    frame,
    time_ns,
    time_utc,
    reason,
    transient,
    message,
    origin_topic,
    origin_partition,
    origin_offset,
    event_time_ns,
    payload,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
