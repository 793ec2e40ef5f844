"""The tools service and who may use it, as the charts render them."""

from agentmemory_operator.names import SESSIONS_ACCOUNT
from tests.charts.helm import (
    MATRIX,
    NAMESPACE,
    Manifest,
    needs_helm,
    of_kind,
    pod,
    rendered,
    rules,
)

pytestmark = needs_helm


def bindings(manifests: list[Manifest], account: str) -> set[tuple[str, str]]:
    """(role, namespace or empty) of all that a service account of the release's namespace has."""
    return {
        (manifest["roleRef"]["name"], manifest["metadata"].get("namespace", ""))
        for manifest in manifests
        if manifest["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for subject in manifest["subjects"]
        if subject == {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    }


def test_the_tools_service_may_ask_who_and_whether_and_read_configurations() -> None:
    manifests = rendered()
    roles = of_kind(manifests, "ClusterRole")
    tools = "am-agentmemory-tools"
    assert rules(roles[tools]) == {("tokenreviews", "create", ""), ("subjectaccessreviews", "create", "")}
    assert rules(roles[f"{tools}-configurations"]) == {("secrets", "get", "")}
    assert bindings(manifests, tools) == {(tools, ""), (f"{tools}-configurations", "")}
    narrowed = rendered("--set=settings.namespaces={agents}")
    assert bindings(narrowed, tools) == {(tools, ""), (f"{tools}-configurations", "agents")}
    assert bindings(narrowed, "am-agentmemory-sessions") == {("am-agentmemory-sessions-editor", "agents")}


def test_people_get_rights_by_bindings_of_their_own_alone() -> None:
    manifests = rendered()
    roles = {**of_kind(manifests, "ClusterRole"), **of_kind(manifests, "Role")}
    sessions = {verb: ("agentmemories/sessions", verb, "") for verb in ("get", "list", "update")}
    assert rules(roles["am-agentmemory-sessions-viewer"]) == {sessions["get"], sessions["list"]}
    assert rules(roles["am-agentmemory-sessions-editor"]) == set(sessions.values())
    assert rules(roles["am-agentmemory-tools-user"]) == {
        ("pods", "list", ""), ("pods/portforward", "get", ""), ("pods/portforward", "create", ""),
    }  # fmt: skip
    for manifest in manifests:
        if manifest["kind"].endswith("RoleBinding"):
            assert manifest["roleRef"]["name"] not in ("am-agentmemory-sessions-viewer", "am-agentmemory-tools-user")
            assert all(subject["kind"] == "ServiceAccount" for subject in manifest["subjects"])


def test_only_one_half_of_the_tools_service_has_a_token_and_nobody_can_connect_to_it() -> None:
    manifests = rendered()
    deployment = of_kind(manifests, "Deployment")["am-agentmemory-tools"]
    containers = {container["name"]: container for container in pod(deployment)["containers"]}
    mounts = {name: {mount["name"] for mount in each["volumeMounts"]} for name, each in containers.items()}
    assert pod(deployment)["automountServiceAccountToken"] is False
    assert (mounts["tools"] - mounts["reader"], mounts["tools"] & mounts["reader"]) == (
        {"settings", "token", "tmp"},
        {"run"},
    )
    assert "--listen=127.0.0.1:8380" in containers["tools"]["args"]
    assert "--api-tokens" in containers["tools"]["args"]
    assert {port["name"] for each in containers.values() for port in each["ports"]} == {"probes", "reader-probes"}
    assert "am-agentmemory-tools" not in of_kind(manifests, "Service")
    assert containers["reader"]["image"] == "agentmemory-sidecar:0.1.0"
    (account,) = [
        text
        for name, text in deployment["spec"]["template"]["metadata"]["annotations"].items()
        if name == SESSIONS_ACCOUNT
    ]
    assert account in of_kind(manifests, "ServiceAccount")


def test_the_tools_service_runs_the_sidecar_s_own_image() -> None:
    named = rendered("--set=settings.images.sidecar=registry/sidecar:1", "--set=tools.apiTokens=false")
    tools, reader = pod(of_kind(named, "Deployment")["am-agentmemory-tools"])["containers"]
    assert reader["image"] == "registry/sidecar:1"
    assert "--no-api-tokens" in tools["args"]


def test_without_the_tools_there_is_nothing_of_them() -> None:
    manifests = rendered(*MATRIX["no tools"], "--set=networkPolicy.enabled=true")
    names = {manifest["metadata"]["name"] for manifest in manifests}
    assert not [name for name in names if "tools" in name or "sessions" in name]
