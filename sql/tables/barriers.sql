-- One row a settlement period that changed anything: where its barrier stands in the ledger, and the hashes that
-- commit to order and state.
CREATE OR REPLACE VIEW barriers AS
SELECT
    frame,
    time_ns,
    time_utc,
    period,
    content_head,
    state_hash,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
