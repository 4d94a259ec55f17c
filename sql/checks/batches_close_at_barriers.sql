-- A batch closes at a barrier of its period, and commits to the order up to it.
SELECT batches.batch, batches.frame, batches.order_commitment, barriers.content_head
FROM batches
LEFT JOIN barriers USING (frame)
WHERE barriers.frame IS NULL
    OR batches.period <> barriers.period
    OR batches.order_commitment <> barriers.content_head;
