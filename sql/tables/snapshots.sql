-- One row a full state: at which frame, and by which tier multiples its tiers were decided.
CREATE OR REPLACE VIEW snapshots AS
SELECT
    frame,
    time_ns,
    time_utc,
    period,
    numeraire,
    watch_multiple,
    takeover_multiple,
    accounts,
    balances,
    positions,
    open_orders,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
