-- One row an account, instrument and full state in which the account has open orders: traders' own, resting at the
-- venue, as told last. Liquidation orders are in orders and positions.
CREATE OR REPLACE VIEW open_orders AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    instrument,
    buy_lots,
    sell_lots,
    buy_quantity,
    sell_quantity,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
