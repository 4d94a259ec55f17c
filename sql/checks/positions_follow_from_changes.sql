-- In every full state a position is the sum of what the settlement periods up to it changed.
WITH settled AS (
    SELECT snapshots.frame, net_changes.number, net_changes.instrument, sum(net_changes.lots) AS lots
    FROM snapshots
    JOIN net_changes ON net_changes.frame <= snapshots.frame AND net_changes.kind = 'position'
    GROUP BY snapshots.frame, net_changes.number, net_changes.instrument
)
SELECT
    coalesce(positions.frame, settled.frame) AS frame,
    coalesce(positions.number, settled.number) AS number,
    coalesce(positions.instrument, settled.instrument) AS instrument,
    coalesce(positions.lots, 0) AS lots,
    coalesce(settled.lots, 0) AS settled_lots
FROM positions
FULL JOIN settled
    ON positions.frame = settled.frame
    AND positions.number = settled.number
    AND positions.instrument = settled.instrument
WHERE coalesce(positions.lots, 0) <> coalesce(settled.lots, 0);
