"""Fixtures around the strict Claude."""
