"""Fixtures every test may ask for: real servers (``tests.servers``) and the strict Claude (``tests.claude.fixtures``)."""

pytest_plugins = ["tests.servers", "tests.claude.fixtures"]
