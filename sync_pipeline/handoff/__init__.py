"""Canonical changes handed on: in order per entity, at least once, each with a key. Our responsibility ends there."""
