-- Each batch begins at the state root where the one before it ended, and moves it.
WITH ordered AS (
    SELECT batch, previous_root, new_root, lag(new_root) OVER (ORDER BY batch) AS root_before FROM batches
)
SELECT batch, root_before, previous_root, new_root
FROM ordered
WHERE previous_root <> root_before OR new_root = previous_root;
