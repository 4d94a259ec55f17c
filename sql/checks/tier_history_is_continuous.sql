-- Each tier change begins where the one before it ended, the first from healthy; a full state shows the last of them.
WITH ordered AS (
    SELECT
        *,
        lag(tier_to, 1, 'healthy') OVER (PARTITION BY number ORDER BY frame, row_index) AS tier_before
    FROM tier_changes
),
last_before_state AS (
    SELECT accounts.frame, accounts.account, accounts.tier, coalesce(tier_changes.tier_to, 'healthy') AS tier_before
    FROM accounts
    ASOF LEFT JOIN tier_changes
        ON accounts.number = tier_changes.number AND accounts.frame >= tier_changes.frame
)
SELECT 'tier_changes' AS source, frame, account, tier_before, tier_from AS tier
FROM ordered
WHERE tier_from <> tier_before
UNION ALL
SELECT 'accounts', frame, account, tier_before, tier
FROM last_before_state
WHERE tier <> tier_before;
