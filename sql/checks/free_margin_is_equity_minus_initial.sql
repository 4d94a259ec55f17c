-- Free margin is equity less initial margin, exactly, in states and in tier changes.
WITH margins AS (
    SELECT frame, account, equity, initial_margin, free_margin FROM accounts WHERE decidable
    UNION ALL
    SELECT frame, account, equity, initial_margin, free_margin FROM tier_changes
)
FROM margins
WHERE free_margin IS DISTINCT FROM equity - initial_margin;
