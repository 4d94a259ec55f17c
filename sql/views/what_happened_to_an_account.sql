-- What happened to an account, in the order of the ledger? Filter by account.
-- Within a frame: payments of the market, then the account's records, then decisions.
WITH records AS (
    SELECT
        frame, time_ns, time_utc, account, number, 1 AS stage, row_index, kind AS what,
        instrument, asset, lots, price, cash AS amount, fee, NULL AS tier, NULL::DOUBLE AS equity,
        concat_ws(' ', side, CASE WHEN liquidation THEN 'liquidation' END, counterparty) AS detail, reference
    FROM account_events
),
paid AS (
    SELECT
        frame, time_ns, time_utc, account, number, 0 AS stage, row_index, kind AS what,
        instrument, asset, lots, NULL AS price, amount, NULL AS fee, NULL AS tier, NULL AS equity,
        NULL AS detail, NULL AS reference
    FROM payments
),
withdrawn AS (
    SELECT
        frame, time_ns, time_utc, account, number, 2 AS stage, row_index,
        CASE WHEN accepted THEN 'withdrawal accepted' ELSE 'withdrawal refused' END AS what,
        NULL AS instrument, asset, NULL AS lots, NULL AS price, CASE WHEN accepted THEN -amount END AS amount,
        NULL AS fee, NULL AS tier, equity, NULL AS detail, NULL AS reference
    FROM withdrawals
),
suspended AS (
    SELECT
        frame, time_ns, time_utc, account, number, 2 AS stage, row_index,
        CASE WHEN suspended THEN 'decisions suspended' ELSE 'decisions resumed' END AS what,
        NULL AS instrument, NULL AS asset, NULL AS lots, NULL AS price, NULL AS amount, NULL AS fee, tier,
        NULL AS equity, NULL AS detail, NULL AS reference
    FROM suspensions
),
changed AS (
    SELECT
        frame, time_ns, time_utc, account, number, 2 AS stage, row_index, 'tier' AS what,
        NULL AS instrument, NULL AS asset, NULL AS lots, NULL AS price, NULL AS amount, NULL AS fee, tier_to AS tier,
        equity, concat('from ', tier_from, ', maintenance margin ', maintenance_margin) AS detail, NULL AS reference
    FROM tier_changes
),
ordered AS (
    SELECT
        frame, time_ns, time_utc, account, number, 2 AS stage, row_index, concat('liquidation order ', action) AS what,
        instrument, NULL AS asset, lots, NULL AS price, NULL AS amount, NULL AS fee, NULL AS tier, NULL AS equity,
        concat('was ', order_lots_before) AS detail, NULL AS reference
    FROM orders
),
everything AS (
    FROM records
    UNION ALL FROM paid
    UNION ALL FROM withdrawn
    UNION ALL FROM suspended
    UNION ALL FROM changed
    UNION ALL FROM ordered
)
SELECT account, frame, time_utc, what, instrument, asset, lots, price, amount, fee, tier, equity, detail, reference
FROM everything
ORDER BY number, frame, stage, row_index;
