-- One row an instrument and full state: the market that the state was evaluated at. Null: not known at this
-- instant.
CREATE OR REPLACE VIEW prices AS
SELECT
    frame,
    time_ns,
    time_utc,
    instrument,
    decidable,
    index_price,
    mark_price,
    forward,
    implied_vol,
    value_per_lot_in_settlement_asset,
    notional_per_lot,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
