"""Fixtures every test may ask for: real servers (``tests.servers``, ``tests.ministack``) and the strict Claude."""

pytest_plugins = ["tests.servers", "tests.claude.fixtures", "tests.ministack"]
