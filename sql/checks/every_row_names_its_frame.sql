-- Every row of every table names a frame and its ledger time, and a barrier at or after that frame covers it.
WITH rows AS (
    SELECT 'barriers' AS source, frame, time_ns FROM barriers
    UNION ALL
    SELECT 'snapshots' AS source, frame, time_ns FROM snapshots
    UNION ALL
    SELECT 'accounts' AS source, frame, time_ns FROM accounts
    UNION ALL
    SELECT 'balances' AS source, frame, time_ns FROM balances
    UNION ALL
    SELECT 'positions' AS source, frame, time_ns FROM positions
    UNION ALL
    SELECT 'greeks' AS source, frame, time_ns FROM greeks
    UNION ALL
    SELECT 'prices' AS source, frame, time_ns FROM prices
    UNION ALL
    SELECT 'asset_prices' AS source, frame, time_ns FROM asset_prices
    UNION ALL
    SELECT 'tier_changes' AS source, frame, time_ns FROM tier_changes
    UNION ALL
    SELECT 'orders' AS source, frame, time_ns FROM orders
    UNION ALL
    SELECT 'withdrawals' AS source, frame, time_ns FROM withdrawals
    UNION ALL
    SELECT 'payments' AS source, frame, time_ns FROM payments
    UNION ALL
    SELECT 'suspensions' AS source, frame, time_ns FROM suspensions
    UNION ALL
    SELECT 'feed_status' AS source, frame, time_ns FROM feed_status
    UNION ALL
    SELECT 'funding_owed' AS source, frame, time_ns FROM funding_owed
    UNION ALL
    SELECT 'account_events' AS source, frame, time_ns FROM account_events
    UNION ALL
    SELECT 'net_changes' AS source, frame, time_ns FROM net_changes
    UNION ALL
    SELECT 'batches' AS source, frame, time_ns FROM batches
    UNION ALL
    SELECT 'dead_letters' AS source, frame, time_ns FROM dead_letters
    UNION ALL
    SELECT 'instruments' AS source, frame, time_ns FROM instruments
    UNION ALL
    SELECT 'assets' AS source, frame, time_ns FROM assets
),
covered AS (
    SELECT max(frame) AS frame, max(time_ns) AS time_ns FROM barriers
)
SELECT rows.source, rows.frame, rows.time_ns, count(*) AS offending_rows
FROM rows
CROSS JOIN covered
WHERE coalesce(rows.frame > covered.frame OR rows.time_ns > covered.time_ns, TRUE)
GROUP BY rows.source, rows.frame, rows.time_ns;
