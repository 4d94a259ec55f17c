-- A liquidation order is opened or grown only for an account that is liquidating or worse at that frame.
WITH placed AS (
    SELECT orders.*, coalesce(tier_changes.tier_to, 'healthy') AS tier
    FROM orders
    ASOF LEFT JOIN tier_changes ON orders.number = tier_changes.number AND orders.frame >= tier_changes.frame
    WHERE action IN ('opened', 'grown')
)
SELECT frame, account, action, instrument, lots, tier
FROM placed
WHERE tier NOT IN ('liquidating', 'takeover', 'bankrupt');
