-- Which accounts are closest to liquidation, in the latest full state?
-- distance is equity as a multiple of maintenance margin: 1 is the boundary, below it an account liquidates.
WITH latest AS (
    SELECT max(frame) AS frame FROM snapshots
),
exposed AS (
    SELECT accounts.*
    FROM accounts
    JOIN latest USING (frame)
    WHERE decidable AND maintenance_margin > 0
)
SELECT
    frame,
    time_utc,
    account,
    tier,
    suspended,
    health,
    equity,
    maintenance_margin,
    initial_margin,
    equity / maintenance_margin AS distance
FROM exposed
ORDER BY distance, number;
