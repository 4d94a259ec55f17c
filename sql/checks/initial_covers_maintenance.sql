-- Requirements are not negative, and initial margin is at least maintenance margin.
WITH margins AS (
    SELECT frame, account, initial_margin, maintenance_margin FROM accounts WHERE decidable
    UNION ALL
    SELECT frame, account, initial_margin, maintenance_margin FROM tier_changes
)
FROM margins
WHERE maintenance_margin IS NULL OR maintenance_margin < 0 OR initial_margin IS NULL OR initial_margin < maintenance_margin;
