"""Benchmarks: what the sidecar costs beside a bare pass-through and another proxy. Not part of the distribution."""
