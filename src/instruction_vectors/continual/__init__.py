"""A sequence of tasks run to its end: stages and the ledger that lets them resume."""
