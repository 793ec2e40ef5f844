"""Fixtures every test may ask for: real servers (``tests.servers``) and the strict Claude (``tests.claude.fixtures``)."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers", "tests.ministack", "tests.aws.fixtures", "tests.claude.fixtures"]

# Tests assert no times: how long an example takes says more about the machine than about the code.
settings.register_profile("agentmemory", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agentmemory")
