"""A pod in, a patch out: golden files, and what must hold for every pod and beside every other injector."""

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmemory_operator.inject.baseurl import read_upstreams
from agentmemory_operator.inject.patch import Reason, inject, is_injected
from agentmemory_operator.settings import Settings
from tests.operator.inject import foreign, goldens
from tests.operator.inject.pods import pods

INJECTED = [name for name in goldens.NAMES if goldens.decide(name).reason is Reason.INJECTED]
NAMESPACE = goldens.NAMESPACE
US = foreign.ours(Settings())


@pytest.mark.parametrize("name", goldens.NAMES)
def test_a_golden_pod_gets_its_patch(name: str) -> None:
    assert goldens.shown(goldens.decide(name)) == goldens.expected(name)


def test_there_is_no_golden_patch_without_its_pod() -> None:
    patches = {path.name.removesuffix(".patch.json") for path in goldens.FOLDER.glob("*.patch.json")}
    assert patches == set(goldens.NAMES)


@pytest.mark.parametrize("name", INJECTED)
def test_a_golden_pod_injected_twice_is_injected_once(name: str) -> None:
    once = foreign.ours(goldens.settings(name))(goldens.pod(name))
    assert is_injected(once)
    again = inject(once, NAMESPACE, goldens.settings(name))
    assert (again.reason, again.patch) == (Reason.COMPLETE, ())


@pytest.mark.parametrize("name", INJECTED)
@pytest.mark.parametrize("other", foreign.INJECTORS)
def test_a_golden_pod_is_the_same_before_and_after_another_injector(name: str, other: foreign.Injector) -> None:
    us, pod = foreign.ours(goldens.settings(name)), goldens.pod(name)
    assert meaning(foreign.admitted(pod, (us, other))) == meaning(foreign.admitted(pod, (other, us)))


@given(pods())
def test_any_pod_injected_twice_is_injected_once(pod: dict[str, Any]) -> None:
    before = copy.deepcopy(pod)
    once = US(pod)
    assert pod == before
    assert inject(once, NAMESPACE, Settings()).patch == ()


@settings(max_examples=60)
@given(pods(), st.permutations(foreign.INJECTORS), st.integers(0, len(foreign.INJECTORS)))
def test_any_pod_is_the_same_at_any_place_among_other_injectors(
    pod: dict[str, Any], others: list[foreign.Injector], place: int
) -> None:
    ordered = [*others[:place], US, *others[place:]]
    assert meaning(foreign.admitted(pod, ordered)) == meaning(foreign.admitted(pod, (US, *foreign.INJECTORS)))


@given(pods())
def test_nothing_of_a_pod_is_lost(pod: dict[str, Any]) -> None:
    after = US(pod)
    added = {"initContainers", "containers", "volumes", "terminationGracePeriodSeconds"}
    assert {key: value for key, value in after["spec"].items() if key not in added} == {
        key: value for key, value in pod["spec"].items() if key not in added
    }
    assert after["metadata"] == pod["metadata"]
    for kind in ("initContainers", "containers"):
        names = [container["name"] for container in after["spec"].get(kind, ())]
        assert [name for name in names if name != "agentmemory"] == [c["name"] for c in pod["spec"].get(kind, ())]
        for container in pod["spec"].get(kind, ()):
            (found,) = (each for each in after["spec"][kind] if each["name"] == container["name"])
            assert without_env(found) == without_env(container)
            kept = [entry for entry in container.get("env", ()) if entry["name"] != "ANTHROPIC_BASE_URL"]
            assert [entry for entry in found.get("env", ()) if entry in kept] == kept


@given(pods())
def test_a_base_url_leads_to_the_sidecar_and_from_there_where_it_led(pod: dict[str, Any]) -> None:
    after = US(pod)
    upstreams = upstreams_of(after)
    for container in after["spec"]["containers"]:
        (was,) = (each for each in pod["spec"]["containers"] if each["name"] == container["name"])
        old, new = base_url(was), base_url(container)
        if old.get("valueFrom") or "$(" in old.get("value", "") or old.get("value", "").startswith("unix"):
            assert new == old
            assert container["name"] not in upstreams
        elif "127.0.0.1:8377" in old.get("value", ""):
            assert new == old
        else:
            match = re.fullmatch(r"http://127\.0\.0\.1:8377(?:/u/([^/]+))?(?:/s/([^/]+))?", new["value"])
            assert match is not None
            assert upstreams.get(match[1] or "", "") == old.get("value", "")
            assert (match[2] is not None) == ("agentmemory.io/session" in pod["metadata"]["annotations"])


@given(pods())
def test_a_variable_is_defined_before_the_base_url_that_refers_to_it(pod: dict[str, Any]) -> None:
    for container in US(pod)["spec"]["containers"]:
        before: set[str] = set()
        for entry in container.get("env", ()):
            if entry["name"] == "ANTHROPIC_BASE_URL" and "127.0.0.1:8377" in entry.get("value", ""):
                assert set(re.findall(r"\$\(([^)]+)\)", entry["value"])) <= before
            before.add(entry["name"])


@given(pods())
def test_a_patch_only_adds_but_for_what_it_takes_over(pod: dict[str, Any]) -> None:
    for operation in inject(pod, NAMESPACE, Settings()).patch:
        if operation["op"] == "replace":
            taken_over = isinstance(operation["value"], dict) and operation["value"]["name"] == "ANTHROPIC_BASE_URL"
            assert taken_over or operation["path"] == "/spec/terminationGracePeriodSeconds"
        else:
            assert operation["op"] == "add"


def test_what_the_api_server_fills_in_between_two_calls_changes_nothing() -> None:
    once = US(goldens.pod("deployment"))
    sidecar = once["spec"]["initContainers"][0]
    sidecar["terminationMessagePath"] = "/dev/termination-log"
    sidecar["startupProbe"]["successThreshold"] = 1
    sidecar["volumeMounts"].append({"name": "kube-api-access-x2x4z", "mountPath": "/var/run/secrets/x"})
    once["metadata"]["name"] = "support-6d4cf56db6-abcde"
    assert inject(once, NAMESPACE, Settings()).patch == ()


def test_a_sidecar_of_other_settings_is_left_as_it_is() -> None:
    once = foreign.ours(Settings())(goldens.pod("irsa"))
    assert inject(once, NAMESPACE, goldens.settings("pod-identity")).patch == ()


def test_a_restart_policy_that_another_injector_dropped_is_put_back() -> None:
    broken = foreign.old_types(US(goldens.pod("plain")))
    assert US(broken) == US(goldens.pod("plain"))


def test_a_container_added_later_gets_its_variables_and_its_upstream() -> None:
    pod = foreign.classic(US(goldens.pod("plain")))
    after = US(pod)
    assert env_of(after, "classic")["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8377/u/classic"
    assert upstreams_of(after) == {"classic": "https://gateway.example"}


def test_upstreams_of_containers_added_later_join_those_that_are_there() -> None:
    pod = foreign.classic(US(goldens.pod("base-url")))
    assert upstreams_of(US(pod)) == {
        "classic": "https://gateway.example",
        "literal": "https://gateway.example/claude$team",
    }


def test_an_init_container_that_runs_before_the_sidecar_gets_nothing() -> None:
    pod = US(goldens.pod("plain"))
    pod["spec"]["initContainers"].insert(0, {"name": "early", "image": "example/agent:1"})
    assert inject(pod, NAMESPACE, Settings()).patch == ()


def test_upstreams_that_somebody_else_wrote_are_refused() -> None:
    pod = US(goldens.pod("plain"))
    pod["spec"]["initContainers"][0]["env"].append({"name": "AGENTMEMORY_UPSTREAMS", "value": "[]"})
    decision = inject(pod, NAMESPACE, Settings())
    assert (decision.allowed, decision.reason) == (False, Reason.NAME_TAKEN)
    assert "AGENTMEMORY_UPSTREAMS" in decision.message


def test_a_variable_of_the_session_that_means_something_else_is_refused() -> None:
    pod = goldens.pod("deployment")
    pod["spec"]["containers"][0]["env"].append({"name": "AGENTMEMORY_SESSION_1", "value": "mine"})
    decision = inject(pod, NAMESPACE, Settings())
    assert (decision.allowed, decision.reason) == (False, Reason.VARIABLE_TAKEN)
    assert "container agent: AGENTMEMORY_SESSION_1" in decision.message


def test_ports_follow_the_settings() -> None:
    own = Settings.model_validate({"sidecar": {"port": 9001, "probePort": 9002}})
    pod = foreign.ours(own)(goldens.pod("plain"))
    sidecar = pod["spec"]["initContainers"][0]
    assert "127.0.0.1:9001" in sidecar["command"]
    assert ":9002" in sidecar["command"]
    assert sidecar["livenessProbe"]["httpGet"]["port"] == sidecar["ports"][0]["containerPort"] == 9002
    assert env_of(pod, "agent")["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9001"


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
@pytest.mark.parametrize("port", [8377, 8378])
def test_a_port_of_the_sidecars_in_use_is_refused(kind: str, port: int) -> None:
    pod = goldens.pod("init-containers")
    pod["spec"][kind][-1]["ports"] = [{"containerPort": port}]
    decision = inject(pod, NAMESPACE, Settings())
    assert (decision.allowed, decision.reason) == (False, Reason.PORT_TAKEN)
    assert str(port) in decision.message


@pytest.mark.parametrize("name", [name for name in goldens.NAMES if name.startswith("refused-")])
def test_a_pod_that_cannot_have_it_starts_without_where_only_its_namespace_asks(name: str) -> None:
    pod = goldens.pod(name)
    fault = goldens.decide(name).reason
    pod["metadata"]["labels"].pop("agentmemory.io/inject")
    decision = inject(pod, NAMESPACE, Settings())
    if fault is Reason.BAD_ANNOTATION:
        assert not decision.allowed  # whoever writes an annotation of ours asks for us
    elif fault is Reason.BAD_LABEL:
        assert decision.reason is Reason.INJECTED
    else:
        assert (decision.allowed, decision.reason, decision.patch) == (True, fault, ())
        assert len(decision.warnings) == 1


def test_a_mirror_pod_is_left_alone() -> None:
    pod = goldens.pod("plain")
    pod["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0123"}
    assert inject(pod, NAMESPACE, Settings()).reason is Reason.MIRROR


def test_members_that_are_null_are_as_good_as_absent() -> None:
    pod = goldens.pod("plain")
    pod["metadata"]["annotations"] = None
    pod["spec"] |= {"initContainers": None, "volumes": None, "imagePullSecrets": None}
    pod["spec"]["containers"][0] |= {"env": None, "ports": None, "resources": None}
    own = Settings.model_validate({"images": {"pullSecrets": ["registry"]}})
    after = foreign.ours(own)(pod)
    assert after["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert env_of(after, "agent")["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8377"


# ------------------------------------------------------------------------------------------------------------- reading


def base_url(container: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        (entry for entry in container.get("env", ()) if entry["name"] == "ANTHROPIC_BASE_URL"), {}
    )
    return found


def env_of(pod: dict[str, Any], name: str) -> dict[str, Any]:
    spec = pod["spec"]
    (container,) = (c for c in [*spec.get("initContainers", ()), *spec["containers"]] if c["name"] == name)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env") or ()}


def upstreams_of(pod: dict[str, Any]) -> dict[str, str]:
    return read_upstreams(env_of(pod, "agentmemory").get("AGENTMEMORY_UPSTREAMS", ""))


def without_env(container: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in container.items() if key != "env"}


def meaning(pod: dict[str, Any]) -> object:
    """A pod without the orders that other injectors may change, and without the sidecar's share of its node: what it
    asks for depends on the class of service that the pod had when it came in."""
    spec = copy.deepcopy(pod["spec"])
    for kind in ("initContainers", "containers"):
        spec[kind] = {container["name"]: container for container in spec.get(kind, ())}
        for container in spec[kind].values():
            container["env"] = {entry["name"]: entry for entry in container.get("env", ())}
    spec["volumes"] = {volume["name"]: volume for volume in spec.get("volumes", ())}
    sidecar = spec["initContainers"]["agentmemory"]
    sidecar.pop("resources")
    upstreams = sidecar["env"].pop("AGENTMEMORY_UPSTREAMS", {}).get("value", "{}")
    return spec | {"upstreams": json.loads(upstreams)}
