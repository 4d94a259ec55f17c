-- A tier change names a tier on the side of each margin where its equity is, whatever the ladder's multiples.
SELECT frame, account, tier_from, tier_to, equity, initial_margin, maintenance_margin
FROM tier_changes
WHERE (tier_to = 'bankrupt') <> (equity < 0)
    OR (tier_to IN ('liquidating', 'takeover', 'bankrupt')) <> (equity < maintenance_margin OR equity < 0)
    OR (tier_to IN ('healthy', 'watch')) <> (equity >= initial_margin AND equity >= 0)
    OR tier_from = tier_to;
