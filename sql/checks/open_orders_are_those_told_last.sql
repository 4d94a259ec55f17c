-- What is open in a full state is what was told last of the account, instrument and side, and nothing in what has
-- expired. An expiry within the state's own period is left out: the log may end before it.
WITH certain AS (
    SELECT
        snapshots.frame,
        instruments.instrument,
        coalesce(instruments.expiry_ns > snapshots.time_ns, true) AS is_live
    FROM snapshots, instruments
    WHERE instruments.expiry_ns IS NULL OR instruments.expiry_ns > snapshots.time_ns
        -- A barrier is the last nanosecond of its period, so this is where its period begins.
        OR instruments.expiry_ns < snapshots.period * ((snapshots.time_ns + 1) // (snapshots.period + 1))
),
told AS (
    SELECT
        certain.frame,
        account_events.number,
        account_events.instrument,
        account_events.side,
        arg_max(account_events.lots, (account_events.frame, account_events.row_index)) AS lots
    FROM certain
    JOIN account_events
        ON account_events.instrument = certain.instrument AND account_events.frame < certain.frame
    WHERE account_events.kind = 'open_orders' AND certain.is_live
    GROUP BY ALL
),
wanted AS (
    SELECT
        frame,
        number,
        instrument,
        coalesce(sum(lots) FILTER (side = 'buyer'), 0) AS buy_lots,
        coalesce(sum(lots) FILTER (side = 'seller'), 0) AS sell_lots
    FROM told
    GROUP BY frame, number, instrument
    HAVING sum(lots) > 0
),
found AS (
    SELECT frame, number, instrument, buy_lots, sell_lots
    FROM open_orders
    WHERE (frame, instrument) IN (SELECT (frame, instrument) FROM certain)
)
(FROM wanted EXCEPT FROM found) UNION ALL (FROM found EXCEPT FROM wanted);
