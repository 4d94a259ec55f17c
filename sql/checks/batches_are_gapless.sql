-- Batches count up by one from 1, and each begins at the frame after the one before it.
WITH ordered AS (
    SELECT
        batch,
        first_frame,
        frame,
        lag(batch, 1, 0) OVER batch_order AS previous_batch,
        lag(frame) OVER batch_order AS previous_frame
    FROM batches
    WINDOW batch_order AS (ORDER BY batch)
)
SELECT batch, previous_batch, first_frame, previous_frame
FROM ordered
WHERE batch <> previous_batch + 1 OR first_frame <> previous_frame + 1 OR frame < first_frame;
