from typing import Any

import pytest

from agentmemory_operator.inject.watchdog import uninjected
from agentmemory_operator.settings import Settings
from tests.operator.inject import foreign, goldens


def pod(golden: str, **metadata: Any) -> dict[str, Any]:
    found = goldens.pod(golden)
    own = found["metadata"]
    own |= {"namespace": "agents", "uid": "u", "name": own.get("name") or f"{own['generateName']}x7x2p"} | metadata
    return found | {"status": {"phase": "Running"}}


def test_a_labelled_pod_without_the_sidecar_is_found_with_what_to_do() -> None:
    (finding,) = uninjected([pod("deployment")])
    assert (finding.namespace, finding.pod, finding.uid) == ("agents", "support-6d4cf56db6-x7x2p", "u")
    assert finding.command == "kubectl -n agents rollout restart deployment/support"
    assert finding.command in finding.message


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("statefulset", "kubectl -n agents rollout restart statefulset/concierge"),
        ("job", "kubectl -n agents delete pod nightly-x7x2p"),
        ("plain", "kubectl -n agents get pod agent -o yaml | kubectl replace --force -f -"),
    ],
)
def test_the_command_fits_the_owner(name: str, command: str) -> None:
    (finding,) = uninjected([pod(name)])
    assert finding.command == command


def test_an_injected_pod_is_none() -> None:
    assert uninjected([foreign.ours(Settings())(pod("plain"))]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}},
        {"metadata": {"labels": {"agentmemory.io/inject": "false"}}},
        {"metadata": {"labels": {}}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"phase": "Failed"}},
    ],
)
def test_pods_that_need_none_are_none(change: dict[str, dict[str, Any]]) -> None:
    found = pod("plain")
    for part, members in change.items():
        found[part] |= members
    assert uninjected([found]) == []


def test_a_labelled_namespace_asks_for_its_pods_but_for_those_that_cannot() -> None:
    plain, network, windows = (
        pod("plain", labels=None),
        pod("namespace-host-network"),
        pod("refused-windows", labels={}),
    )
    assert uninjected([plain, network, windows]) == []
    assert [each.pod for each in uninjected([plain, network, windows], frozenset({"agents"}))] == ["agent"]


def test_findings_come_in_order() -> None:
    names = ["b", "a", "c"]
    assert [each.pod for each in uninjected([pod("plain", name=name) for name in names])] == sorted(names)
