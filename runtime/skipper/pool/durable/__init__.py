"""The durable lane: tasks, claimed from the ledger, run, recorded."""
