-- Equity is, over assets, cash plus positions that settle in the asset, at its price, less the haircut where positive. An
-- account whose margin model margins collateral itself has no haircut in its equity.
-- An isolated account that holds positions counts a positive net only in assets that they settle in.
WITH pieces AS (
    SELECT frame, number, asset, CAST(amount AS DOUBLE) AS net, FALSE AS settles FROM balances
    UNION ALL
    SELECT frame, number, settlement_asset, value_in_settlement_asset, TRUE FROM positions
),
nets AS (
    SELECT frame, number, asset, sum(net) AS net, sum(abs(net)) AS gross, bool_or(settles) AS settles
    FROM pieces
    GROUP BY frame, number, asset
),
holders AS (
    SELECT frame, number, bool_or(settles) AS holds_positions FROM nets GROUP BY frame, number
),
valued AS (
    SELECT
        accounts.frame,
        accounts.number,
        nets.gross * asset_prices.price AS gross,
        CASE
            WHEN nets.net <= 0 THEN nets.net * asset_prices.price
            WHEN accounts.margin_mode = 'isolated' AND holders.holds_positions AND NOT nets.settles THEN 0
            WHEN accounts.before_haircuts THEN nets.net * asset_prices.price
            ELSE nets.net * asset_prices.price * (1 - asset_prices.haircut)
        END AS worth
    FROM accounts
    JOIN nets USING (frame, number)
    JOIN holders USING (frame, number)
    JOIN asset_prices ON asset_prices.frame = accounts.frame AND asset_prices.asset = nets.asset
),
expected AS (
    SELECT frame, number, sum(worth) AS equity, sum(gross) AS gross FROM valued GROUP BY frame, number
)
SELECT accounts.frame, accounts.account, accounts.equity, coalesce(expected.equity, 0) AS expected_equity
FROM accounts
LEFT JOIN expected USING (frame, number)
WHERE accounts.decidable
    AND coalesce(
        abs(accounts.equity - coalesce(expected.equity, 0)) > 1e-6 * greatest(1, coalesce(expected.gross, 0)), TRUE
    );
