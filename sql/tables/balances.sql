-- One row an account, asset and full state where the balance is not zero, system accounts included. amount =
-- units in whole assets, exactly.
CREATE OR REPLACE VIEW balances AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    asset,
    units,
    amount,
    asset_price,
    haircut,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
