-- An order opens from nothing, grows on the same side, and is cancelled to nothing.
SELECT frame, account, instrument, action, lots, order_lots_before
FROM orders
WHERE NOT CASE action
    WHEN 'opened' THEN order_lots_before = 0 AND lots <> 0
    WHEN 'grown' THEN abs(lots) > abs(order_lots_before) AND sign(lots) = sign(order_lots_before)
    WHEN 'cancelled' THEN order_lots_before <> 0 AND lots = 0
    ELSE FALSE
END;
