"""Real servers for tests, started from wheels on loopback."""
