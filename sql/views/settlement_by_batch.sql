-- What did each settlement batch settle, and how many frames and seconds of ledger does it cover?
-- Only a barrier that changed an integer has a batch, so a batch settles what its own barrier changed.
WITH covered AS (
    SELECT *, lag(time_ns) OVER (ORDER BY batch) AS previous_ns FROM batches
),
moved AS (
    SELECT
        frame,
        count(*) FILTER (WHERE kind = 'asset') AS balances_changed,
        count(*) FILTER (WHERE kind = 'position') AS positions_changed
    FROM net_changes
    GROUP BY frame
)
SELECT
    covered.batch,
    covered.period,
    covered.first_frame,
    covered.frame AS last_frame,
    covered.time_utc,
    covered.frame - covered.first_frame + 1 AS frames,
    (covered.time_ns - covered.previous_ns) / 1e9 AS seconds_since_previous,
    covered.accounts,
    moved.balances_changed,
    moved.positions_changed,
    covered.new_root,
    covered.order_commitment
FROM covered
LEFT JOIN moved USING (frame)
ORDER BY covered.batch;
