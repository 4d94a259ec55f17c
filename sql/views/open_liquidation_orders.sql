-- Which liquidation orders are open in the latest full state, and when was each last opened or grown?
WITH latest AS (
    SELECT max(frame) AS frame FROM snapshots
),
held AS (
    SELECT positions.*
    FROM positions
    JOIN latest USING (frame)
    WHERE liquidation_order_lots <> 0
),
placed AS (
    SELECT orders.number, orders.instrument, max(orders.frame) AS frame, max(orders.time_utc) AS time_utc
    FROM orders
    JOIN latest ON orders.frame <= latest.frame
    WHERE action IN ('opened', 'grown')
    GROUP BY orders.number, orders.instrument
)
SELECT
    held.frame,
    held.account,
    accounts.tier,
    held.instrument,
    held.lots AS position_lots,
    held.liquidation_order_lots,
    held.mark_price,
    held.value,
    placed.frame AS order_frame,
    placed.time_utc AS order_time_utc
FROM held
JOIN accounts USING (frame, number)
LEFT JOIN placed ON placed.number = held.number AND placed.instrument = held.instrument
ORDER BY held.number, held.instrument;
