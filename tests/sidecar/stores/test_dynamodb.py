"""What is DynamoDB's own; the rest is in the conformance suite."""

from tests.sidecar.stores.conformance.aws_backends import dynamodb
from tests.sidecar.stores.conformance.backends import STATE
from tests.sidecar.stores.conformance.state import StateConformance

STATE["dynamodb"] = dynamodb


class TestConformance(StateConformance):
    backend = "dynamodb"
