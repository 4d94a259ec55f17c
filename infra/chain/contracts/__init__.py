"""The settlement contract: its source, and beside it what the compiler made of it."""
