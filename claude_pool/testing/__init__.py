"""What claude-pool ships for tests: contracts, a fake `claude`, a simulated Messages API, a ledger of what was run."""
