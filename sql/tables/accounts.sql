-- One row a customer account and full state: its tier and margins, in the numeraire. Null margins: the account
-- holds what cannot be priced now. Equity is before_haircuts where the margin model margins collateral itself.
CREATE OR REPLACE VIEW accounts AS
SELECT
    frame,
    time_ns,
    time_utc,
    account,
    number,
    margin_model,
    margin_mode,
    tier,
    suspended,
    decidable,
    before_haircuts,
    equity,
    initial_margin,
    maintenance_margin,
    free_margin,
    health,
    CAST(time_utc AS DATE) AS day
FROM read_parquet($files, hive_partitioning = false);
