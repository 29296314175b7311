"""Secrets that do not show themselves, and masking of what must not be logged."""
