"""One account under other trades, other money and another market: the engine's own numbers, before and after."""
