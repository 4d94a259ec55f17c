-- One row a change of tier, with the numbers that decided it.
CREATE OR REPLACE VIEW tier_changes AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    row_index,
    tier_from,
    tier_to,
    equity,
    initial_margin,
    maintenance_margin,
    free_margin,
    health,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
