-- An account has margins exactly where it is decidable.
SELECT frame, account, decidable, equity, initial_margin, maintenance_margin
FROM accounts
WHERE (equity IS NULL) = decidable OR (initial_margin IS NULL) = decidable OR (maintenance_margin IS NULL) = decidable;
