"""Canonical rows, quarantine, held records, outbox: every record is counted in the transaction that keeps it."""
