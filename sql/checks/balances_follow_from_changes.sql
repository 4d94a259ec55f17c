-- From one full state to the next, every balance moves by exactly what the settlement periods between them changed.
WITH ordered AS (
    SELECT frame, lead(frame) OVER (ORDER BY frame) AS next_frame FROM snapshots
),
pieces AS (
    SELECT frame, number, asset, units FROM balances
    UNION ALL
    SELECT ordered.next_frame, number, asset, -units
    FROM balances
    JOIN ordered USING (frame)
    WHERE ordered.next_frame IS NOT NULL
    UNION ALL
    SELECT snapshots.frame, number, asset, -units
    FROM net_changes
    ASOF JOIN snapshots ON net_changes.frame <= snapshots.frame
    WHERE kind = 'asset'
)
SELECT frame, number, asset, sum(units) AS unexplained_units
FROM pieces
GROUP BY frame, number, asset
HAVING sum(units) <> 0;
