"""Canonical rows, quarantine, held records, replay, outbox: every record is counted in the transaction that keeps it."""
