-- One row a funding rate that fell due while its perpetual could not be priced; the rates that wait are paid together,
-- as a payment of kind funding, at the first frame at which it can be.
CREATE OR REPLACE VIEW funding_owed AS
SELECT
    frame,
    time_ns,
    time_utc,
    row_index,
    instrument,
    rates_waiting,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
