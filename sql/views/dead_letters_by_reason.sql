-- Why were inputs refused, how often, and where is an example?
WITH placed AS (
    SELECT
        *,
        {'frame': frame, 'topic': origin_topic, 'part': origin_partition, 'place': origin_offset} AS refusal
    FROM dead_letters
),
counted AS (
    SELECT
        reason,
        transient,
        count(*) AS dead_letters,
        min(frame) AS first_frame,
        max(frame) AS last_frame,
        first(message ORDER BY refusal) AS example,
        first(concat_ws(':', refusal.topic, refusal.part, refusal.place) ORDER BY refusal) AS example_origin
    FROM placed
    GROUP BY reason, transient
)
SELECT reason, transient, dead_letters, first_frame, last_frame, example, example_origin
FROM counted
ORDER BY dead_letters DESC, reason;
