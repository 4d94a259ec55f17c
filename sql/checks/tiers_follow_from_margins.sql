-- In a full state an account's tier is the one that its margins name, by the ladder in force.
-- Accounts that wait for a price keep their tier. A difference within 1e-12 of a boundary is rounding of the product.
WITH decided AS (
    SELECT accounts.*, watch_multiple, takeover_multiple
    FROM accounts
    JOIN snapshots USING (frame)
    WHERE decidable AND NOT suspended
),
laddered AS (
    SELECT
        *,
        CASE
            WHEN equity < 0 THEN 'bankrupt'
            WHEN equity < takeover_multiple * maintenance_margin THEN 'takeover'
            WHEN equity < maintenance_margin THEN 'liquidating'
            WHEN equity < initial_margin THEN 'warning'
            WHEN equity < watch_multiple * initial_margin THEN 'watch'
            ELSE 'healthy'
        END AS expected_tier,
        least(
            abs(equity - takeover_multiple * maintenance_margin), abs(equity - watch_multiple * initial_margin)
        ) <= 1e-12 * abs(equity) AS on_boundary
    FROM decided
)
SELECT frame, account, tier, expected_tier, equity, initial_margin, maintenance_margin
FROM laddered
WHERE tier <> expected_tier AND NOT on_boundary;
