"""What is S3's own; the rest is in the conformance suite."""

from tests.sidecar.stores.conformance.aws_backends import s3
from tests.sidecar.stores.conformance.backends import OBJECTS
from tests.sidecar.stores.conformance.objects import ObjectConformance

OBJECTS["s3"] = s3


class TestConformance(ObjectConformance):
    backend = "s3"
