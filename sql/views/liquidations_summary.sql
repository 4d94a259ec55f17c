-- How many accounts reached liquidation, hour by hour, how bad did it get, and how many orders did it take?
-- accounts_* count each account once an hour; lowest_equity is the deepest below zero at a tier change.
WITH reached AS (
    SELECT date_trunc('hour', time_utc) AS hour_utc, number, tier_to, equity
    FROM tier_changes
    WHERE tier_to IN ('liquidating', 'takeover', 'bankrupt')
),
by_hour AS (
    SELECT
        hour_utc,
        count(DISTINCT number) AS accounts,
        count(DISTINCT number) FILTER (WHERE tier_to = 'takeover') AS accounts_takeover,
        count(DISTINCT number) FILTER (WHERE tier_to = 'bankrupt') AS accounts_bankrupt,
        min(least(equity, 0)) AS lowest_equity
    FROM reached
    GROUP BY hour_utc
),
ordered AS (
    SELECT
        date_trunc('hour', time_utc) AS hour_utc,
        count(*) FILTER (WHERE action = 'opened') AS orders_opened,
        count(*) FILTER (WHERE action = 'grown') AS orders_grown,
        count(*) FILTER (WHERE action = 'cancelled') AS orders_cancelled
    FROM orders
    GROUP BY hour_utc
)
SELECT
    hour_utc,
    coalesce(accounts, 0) AS accounts,
    coalesce(accounts_takeover, 0) AS accounts_takeover,
    coalesce(accounts_bankrupt, 0) AS accounts_bankrupt,
    lowest_equity,
    coalesce(orders_opened, 0) AS orders_opened,
    coalesce(orders_grown, 0) AS orders_grown,
    coalesce(orders_cancelled, 0) AS orders_cancelled
FROM by_hour
FULL JOIN ordered USING (hour_utc)
ORDER BY hour_utc;
