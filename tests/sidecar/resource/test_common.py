import pytest
from pydantic import TypeAdapter, ValidationError

from agentmemory_sidecar.resource.common import Quantity


@pytest.mark.parametrize("written", ["250m", "1Gi", "0.5", "2"])
def test_a_quantity_stays_as_it_is_written(written: str) -> None:
    assert TypeAdapter(Quantity).validate_python(written) == written


@pytest.mark.parametrize("written", ["1 Gi", "Gi", "1GiB", "-1"])
def test_no_quantity(written: str) -> None:
    with pytest.raises(ValidationError, match="a Kubernetes quantity"):
        TypeAdapter(Quantity).validate_python(written)
