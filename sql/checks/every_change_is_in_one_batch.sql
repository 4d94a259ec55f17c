-- What a barrier changed is settled by exactly one batch, the one that closes there, which counts it whole.
WITH changed AS (
    SELECT frame, count(*) AS changes, count(DISTINCT number) AS accounts FROM net_changes GROUP BY frame
),
settled AS (
    SELECT frame, count(*) AS batches, sum(deltas) AS deltas, sum(accounts) AS accounts FROM batches GROUP BY frame
)
SELECT
    frame,
    coalesce(settled.batches, 0) AS batches,
    changed.changes,
    settled.deltas,
    changed.accounts AS accounts_changed,
    settled.accounts AS accounts_settled
FROM changed
FULL JOIN settled USING (frame)
WHERE settled.batches IS DISTINCT FROM 1
    OR changed.changes IS DISTINCT FROM settled.deltas
    OR changed.accounts IS DISTINCT FROM settled.accounts;
