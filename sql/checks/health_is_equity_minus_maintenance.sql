-- Health is equity less maintenance margin, exactly, in states and in tier changes.
WITH margins AS (
    SELECT frame, account, equity, maintenance_margin, health FROM accounts WHERE decidable
    UNION ALL
    SELECT frame, account, equity, maintenance_margin, health FROM tier_changes
)
FROM margins
WHERE health IS DISTINCT FROM equity - maintenance_margin;
