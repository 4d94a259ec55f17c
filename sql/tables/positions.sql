-- One row an account, instrument and full state where lots are not zero, system accounts included (they have no
-- entry price). value and unrealised_pnl are in the numeraire.
CREATE OR REPLACE VIEW positions AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    instrument,
    lots,
    quantity,
    mark_price,
    value,
    settlement_asset,
    value_in_settlement_asset,
    entry_price,
    unrealised_pnl,
    liquidation_order_lots,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
