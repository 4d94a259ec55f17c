-- An open liquidation order reduces its position.
SELECT frame, account, instrument, lots, open_order_lots
FROM positions
WHERE open_order_lots <> 0 AND sign(open_order_lots) = sign(lots);
