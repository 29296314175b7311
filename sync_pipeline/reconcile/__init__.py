"""Whole windows compared with the vendor: differences found, explained, mended where that is safe, and verified."""
