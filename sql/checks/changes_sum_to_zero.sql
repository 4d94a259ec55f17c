-- What a settlement period changed sums to exactly zero over all accounts, by asset and by instrument.
SELECT frame, kind, asset, instrument, sum(units) AS units, sum(lots) AS lots
FROM net_changes
GROUP BY frame, kind, asset, instrument
HAVING coalesce(sum(units), sum(lots)) <> 0;
