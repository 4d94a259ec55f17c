-- A full state has as many rows as it says, each account, balance and position once, at a barrier.
WITH found AS (
    SELECT
        snapshots.frame,
        snapshots.accounts,
        snapshots.balances,
        snapshots.positions,
        (SELECT count(DISTINCT number) FROM accounts WHERE accounts.frame = snapshots.frame) AS accounts_found,
        (SELECT count(DISTINCT (number, asset)) FROM balances WHERE balances.frame = snapshots.frame) AS balances_found,
        (
            SELECT count(DISTINCT (number, instrument)) FROM positions WHERE positions.frame = snapshots.frame
        ) AS positions_found,
        EXISTS (SELECT 1 FROM barriers WHERE barriers.frame = snapshots.frame) AS at_barrier
    FROM snapshots
)
FROM found
WHERE accounts <> accounts_found OR balances <> balances_found OR positions <> positions_found OR NOT at_barrier;
