-- Every instrument's positions sum to exactly zero over all accounts, the house included, in every full state.
SELECT frame, instrument, sum(lots) AS lots
FROM positions
GROUP BY frame, instrument
HAVING sum(lots) <> 0;
