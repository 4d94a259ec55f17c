-- From one full state to the next, every position moves by exactly what the settlement periods between them changed.
WITH ordered AS (
    SELECT frame, lead(frame) OVER (ORDER BY frame) AS next_frame FROM snapshots
),
pieces AS (
    SELECT frame, number, instrument, lots FROM positions
    UNION ALL
    SELECT ordered.next_frame, number, instrument, -lots
    FROM positions
    JOIN ordered USING (frame)
    WHERE ordered.next_frame IS NOT NULL
    UNION ALL
    SELECT snapshots.frame, number, instrument, -lots
    FROM net_changes
    ASOF JOIN snapshots ON net_changes.frame <= snapshots.frame
    WHERE kind = 'position'
)
SELECT frame, number, instrument, sum(lots) AS unexplained_lots
FROM pieces
GROUP BY frame, number, instrument
HAVING sum(lots) <> 0;
