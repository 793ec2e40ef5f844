"""The cluster of the operator's tests is the charts' too."""

from tests.operator.cluster import definition, kubectl
from tests.operator.conftest import pytest_collection_modifyitems

__all__ = ["definition", "kubectl", "pytest_collection_modifyitems"]
