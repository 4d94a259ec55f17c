-- Every asset's balances sum to exactly zero over all accounts, system accounts included, in every full state.
SELECT frame, asset, sum(units) AS units
FROM balances
GROUP BY frame, asset
HAVING sum(units) <> 0;
