-- In every full state a balance is the sum of what the settlement periods up to it changed.
WITH settled AS (
    SELECT snapshots.frame, net_changes.number, net_changes.asset, sum(net_changes.units) AS units
    FROM snapshots
    JOIN net_changes ON net_changes.frame <= snapshots.frame AND net_changes.kind = 'asset'
    GROUP BY snapshots.frame, net_changes.number, net_changes.asset
)
SELECT
    coalesce(balances.frame, settled.frame) AS frame,
    coalesce(balances.number, settled.number) AS number,
    coalesce(balances.asset, settled.asset) AS asset,
    coalesce(balances.units, 0) AS units,
    coalesce(settled.units, 0) AS settled_units
FROM balances
FULL JOIN settled
    ON balances.frame = settled.frame AND balances.number = settled.number AND balances.asset = settled.asset
WHERE coalesce(balances.units, 0) <> coalesce(settled.units, 0);
