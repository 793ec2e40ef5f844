"""PostgreSQL in the conformance suites."""

from tests.sidecar.stores.conformance.objects import ObjectConformance
from tests.sidecar.stores.conformance.state import StateConformance


class TestState(StateConformance):
    backend = "postgres"


class TestObjects(ObjectConformance):
    backend = "postgres"
