"""The chain: the settlement contract, the chains it lives on, and the writer that posts batches once."""
