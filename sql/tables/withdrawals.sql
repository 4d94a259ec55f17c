-- One row a withdrawal request that was decided. Its id is the reference of the account event with the same
-- frame and sequence.
CREATE OR REPLACE VIEW withdrawals AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    row_index,
    sequence,
    accepted,
    asset,
    units,
    amount,
    equity,
    initial_margin,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
