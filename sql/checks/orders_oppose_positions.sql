-- An open liquidation order reduces its position.
SELECT frame, account, instrument, lots, liquidation_order_lots
FROM positions
WHERE liquidation_order_lots <> 0 AND sign(liquidation_order_lots) = sign(lots);
