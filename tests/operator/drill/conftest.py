"""Sidecars for the writer to write through: those that the sidecar's own tests use."""

from tests.sidecar.conftest import configure, dsn, start

__all__ = ["configure", "dsn", "start"]
