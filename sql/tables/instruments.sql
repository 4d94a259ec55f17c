-- One row a listed instrument; frame is the one that listed it.
CREATE OR REPLACE VIEW instruments AS
SELECT
    frame,
    time_ns,
    time_utc,
    instrument,
    instrument_index,
    kind,
    underlying,
    quote,
    settlement_asset,
    base_asset,
    payoff,
    option_type,
    strike,
    expiry_ns,
    expiry_utc,
    lot_size,
    lot_quantity,
    tick_size,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
