-- One row an account record of the ledger: fills, busts, transfers and withdrawal requests as they entered, with
-- the id of the event.
CREATE OR REPLACE VIEW account_events AS
SELECT
    frame,
    time_ns,
    time_utc,
    event_time_ns,
    account,
    number,
    sequence,
    row_index,
    kind,
    side,
    liquidation,
    counterparty,
    instrument,
    lots,
    quantity,
    price,
    asset,
    cash_units,
    cash,
    fee_units,
    fee,
    reference,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
