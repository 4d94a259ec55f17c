-- How long did each account stay in each tier, and with which numbers did it enter?
-- until_utc is null for the tier that it is in now.
WITH ordered AS (
    SELECT
        *,
        lead(frame) OVER account_order AS until_frame,
        lead(time_ns) OVER account_order AS until_ns,
        lead(time_utc) OVER account_order AS until_utc
    FROM tier_changes
    WINDOW account_order AS (PARTITION BY number ORDER BY frame, row_index)
)
SELECT
    account,
    frame,
    time_utc,
    tier_from,
    tier_to AS tier,
    equity,
    initial_margin,
    maintenance_margin,
    health,
    until_frame,
    until_utc,
    (until_ns - time_ns) / 1e9 AS seconds
FROM ordered
ORDER BY number, frame, row_index;
