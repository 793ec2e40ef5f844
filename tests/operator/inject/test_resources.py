from decimal import Decimal
from typing import Any

import pytest

from agentmemory_operator.inject.options import Options, OptionsError
from agentmemory_operator.inject.patch import inject
from agentmemory_operator.inject.resources import amount, is_guaranteed, sidecar_resources
from agentmemory_operator.settings import Settings, SidecarSettings
from tests.operator.inject import foreign, goldens


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("1", "1"),
        ("1000m", "1"),
        ("0.5", "0.5"),
        ("1Ki", "1024"),
        ("1k", "1000"),
        ("2e3", "2000"),
        ("1E", "1e18"),
        (2, "2"),
    ],
)
def test_quantities_are_numbers(quantity: str | int, number: str) -> None:
    assert amount(quantity) == Decimal(number)


@pytest.mark.parametrize("quantity", ["", "x", "1 Gi", "1i"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        amount(quantity)


def container(**resources: dict[str, str]) -> dict[str, Any]:
    return {"name": "agent", "resources": resources}


FULL = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("spec", "guaranteed"),
    [
        ({"containers": [container(limits=FULL)]}, True),
        ({"containers": [container(limits=FULL, requests={"cpu": "1000m", "memory": "1024Mi"})]}, True),
        ({"containers": [container(limits=FULL, requests={"cpu": "500m"})]}, False),
        ({"containers": [container(limits={"cpu": "1"})]}, False),
        ({"containers": [container(limits=FULL), container()]}, False),
        ({"containers": [container(limits=FULL)], "initContainers": [container()]}, False),
        ({"containers": [container(limits=FULL)], "initContainers": [container(limits=FULL)]}, True),
        ({"containers": [container(limits=FULL)], "resources": {"limits": FULL}}, False),
        ({"containers": [container(limits={"cpu": "0", "memory": "1Gi"})]}, False),
        ({"containers": [container(limits={"cpu": "odd", "memory": "1Gi"})]}, False),
        ({}, False),
    ],
)
def test_the_class_of_service_is_told_as_kubernetes_does(spec: dict[str, Any], guaranteed: bool) -> None:
    assert is_guaranteed(spec) is guaranteed


def test_a_guaranteed_pod_stays_one() -> None:
    after = foreign.ours(Settings())(goldens.pod("guaranteed"))
    assert is_guaranteed(after["spec"])
    assert after["spec"]["initContainers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "256Mi"}


def test_what_a_guaranteed_pod_says_of_the_sidecar_counts() -> None:
    pod = goldens.pod("guaranteed")
    pod["metadata"]["annotations"] = {"agentmemory.io/cpu-request": "250m", "agentmemory.io/memory-limit": "1Gi"}
    after = foreign.ours(Settings())(pod)
    expected = {"cpu": "250m", "memory": "1Gi"}
    assert after["spec"]["initContainers"][0]["resources"] == {"requests": expected, "limits": expected}


def test_a_limit_below_the_request_is_refused_with_the_annotation_to_add() -> None:
    options = Options.read({"agentmemory.io/memory-limit": "64Mi"})
    with pytest.raises(OptionsError, match=r"memory-limit: .* 96Mi .* 64Mi: give agentmemory.io/memory-request too"):
        sidecar_resources(options, SidecarSettings(), guaranteed=False)


def test_an_installation_may_ask_for_nothing() -> None:
    settings = Settings.model_validate({"sidecar": {"resources": {}}})
    (sidecar,) = inject(goldens.pod("plain"), "agents", settings).patch[0]["value"]
    assert sidecar["resources"] == {}
