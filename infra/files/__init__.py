"""Files: event logs as sources, the ledger, snapshots and the queries over them."""
