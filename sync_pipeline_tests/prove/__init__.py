"""Proofs at size: what the tests show in small, `make prove` shows in large, and prints as figures."""
