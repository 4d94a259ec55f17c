-- A full state has as many rows as it says, each account, balance, position and open order once, at a barrier.
WITH found AS (
    SELECT
        snapshots.frame,
        snapshots.accounts,
        snapshots.balances,
        snapshots.positions,
        snapshots.open_orders,
        (SELECT count(DISTINCT number) FROM accounts WHERE accounts.frame = snapshots.frame) AS accounts_found,
        (SELECT count(DISTINCT (number, asset)) FROM balances WHERE balances.frame = snapshots.frame) AS balances_found,
        (
            SELECT count(DISTINCT (number, instrument)) FROM positions WHERE positions.frame = snapshots.frame
        ) AS positions_found,
        (
            SELECT count(DISTINCT (number, instrument)) FROM open_orders WHERE open_orders.frame = snapshots.frame
        ) AS open_orders_found,
        EXISTS (SELECT 1 FROM barriers WHERE barriers.frame = snapshots.frame) AS at_barrier
    FROM snapshots
)
FROM found
WHERE accounts <> accounts_found OR balances <> balances_found OR positions <> positions_found
    OR open_orders <> open_orders_found OR NOT at_barrier;
