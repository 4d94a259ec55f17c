-- Frames, times and periods of barriers rise, each barrier once.
WITH ordered AS (
    SELECT
        frame,
        time_ns,
        period,
        lag(frame) OVER barrier_order AS previous_frame,
        lag(time_ns) OVER barrier_order AS previous_ns,
        lag(period) OVER barrier_order AS previous_period
    FROM barriers
    WINDOW barrier_order AS (ORDER BY frame, time_ns)
)
FROM ordered
WHERE frame <= previous_frame OR time_ns < previous_ns OR period <= previous_period;
