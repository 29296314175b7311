"""Bounded polling runs: a window is walked page by page, and each page goes all the way to the ledger."""
