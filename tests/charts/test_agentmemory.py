"""What the charts render to: rights, selectors, security, and what only some values add."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentmemory_operator import crd
from agentmemory_operator.names import INJECT
from tests.charts.helm import (
    CHART,
    CHARTS,
    MATRIX,
    NAMESPACE,
    ROOT,
    helm,
    needs_helm,
    of_kind,
    pod,
    rendered,
    rules,
)

pytestmark = needs_helm
WORKLOADS = ("Deployment", "Job")


@pytest.mark.parametrize("name", ["agentmemory", "agentmemory-crds"])
def test_helm_finds_nothing_wrong(name: str) -> None:
    done = helm("lint", "--strict", str(CHARTS / name))
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_charts_and_the_package_have_one_version() -> None:
    versions = {
        yaml.safe_load((CHARTS / name / "Chart.yaml").read_text())["version"]
        for name in ("agentmemory", "agentmemory-crds")
    }
    assert f'version = "{versions.pop()}"' in (ROOT / "pyproject.toml").read_text()
    assert not versions


def test_the_definition_s_chart_renders_the_definition() -> None:
    done = helm("template", "crds", str(CHARTS / "agentmemory-crds"))
    assert yaml.safe_load(done.stdout) == crd.definition()


# ------------------------------------------------------------------------------------------------------------- rights


def test_the_operator_may_do_what_it_does_and_no_more() -> None:
    manifests = rendered()
    roles = of_kind(manifests, "ClusterRole")
    assert rules(roles["am-agentmemory-operator"]) == {
        *((resource, verb, "") for resource in ("nodes", "namespaces") for verb in ("get", "list", "watch")),
        ("mutatingwebhookconfigurations", "get", "am-agentmemory"),
        ("mutatingwebhookconfigurations", "patch", "am-agentmemory"),
    }
    stores = rules(roles["am-agentmemory-operator-stores"])
    assert {verb for resource, verb, _ in stores if resource == "pods"} == {"get", "list", "watch", "delete"}
    assert {verb for resource, verb, _ in stores if resource == "agentmemories"} == {"get", "list", "watch", "patch"}
    assert {verb for resource, verb, _ in stores if resource == "events"} == {"create"}
    own = rules(of_kind(manifests, "Role")["am-agentmemory-operator"])
    assert own == {
        ("leases", "create", ""),
        ("leases", "get", "agentmemory-operator"),
        ("leases", "update", "agentmemory-operator"),
        ("secrets", "create", ""),
        ("secrets", "get", "am-agentmemory-webhook-tls"),
        ("secrets", "update", "am-agentmemory-webhook-tls"),
    }


@pytest.mark.parametrize("options", MATRIX.values(), ids=MATRIX)
def test_nobody_may_do_everything_or_become_another(options: tuple[str, ...]) -> None:
    manifests = rendered(*options)
    roles = {**of_kind(manifests, "ClusterRole"), **of_kind(manifests, "Role")}
    bound = {m["roleRef"]["name"] for m in manifests if m["kind"].endswith("RoleBinding")}
    for name, role in roles.items():
        for resource, verb, _ in rules(role):
            assert "*" not in (resource, verb), name
            assert name not in bound or not resource.startswith(
                ("pods/", "serviceaccounts", "roles", "clusterroles")
            ), name
            assert verb not in ("impersonate", "escalate", "bind", "deletecollection"), name
        assert all("*" not in rule["apiGroups"] for rule in role["rules"]), name


def test_named_namespaces_narrow_the_rights() -> None:
    manifests = rendered("--set=settings.namespaces={agents,more}")
    bindings = of_kind(manifests, "RoleBinding")
    assert "am-agentmemory-operator-stores" not in of_kind(manifests, "ClusterRoleBinding")
    places = [
        m["metadata"]["namespace"]
        for m in manifests
        if m["metadata"]["name"] == "am-agentmemory-operator-stores" and m["kind"] == "RoleBinding"
    ]
    assert places == ["agents", "more"]
    assert bindings["am-agentmemory-operator-stores"]["roleRef"]["kind"] == "ClusterRole"


def test_the_webhook_has_no_rights_and_no_token() -> None:
    manifests = rendered()
    webhook = pod(of_kind(manifests, "Deployment")["am-agentmemory-webhook"])
    assert webhook["automountServiceAccountToken"] is False
    assert of_kind(manifests, "ServiceAccount")["am-agentmemory-webhook"]["automountServiceAccountToken"] is False
    bound = [
        subject["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for manifest in manifests
        if manifest["kind"] == kind
        for subject in manifest["subjects"]
    ]
    assert "am-agentmemory-webhook" not in bound


def test_the_authority_s_key_is_not_mounted() -> None:
    webhook = pod(of_kind(rendered(), "Deployment")["am-agentmemory-webhook"])
    (volume,) = [volume for volume in webhook["volumes"] if "secret" in volume]
    assert [item["key"] for item in volume["secret"]["items"]] == ["tls.crt", "tls.key"]


# --------------------------------------------------------------------------------------------------------------- pods


@pytest.mark.parametrize("options", MATRIX.values(), ids=MATRIX)
def test_every_pod_is_restricted_and_never_injected(options: tuple[str, ...]) -> None:
    for workload in (m for m in rendered(*options) if m["kind"] in WORKLOADS):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert labels[INJECT] == "false"
        assert labels["agentmemory.io/component"]
        assert pod(workload)["securityContext"]["runAsNonRoot"] is True
        for container in pod(workload)["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert container["resources"]["requests"]
            assert container["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("options", MATRIX.values(), ids=MATRIX)
def test_selectors_find_their_own_pods_and_no_others(options: tuple[str, ...]) -> None:
    manifests = rendered(*options)
    templates = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in manifests
        if manifest["kind"] in WORKLOADS
    }
    for manifest in manifests:
        match manifest["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                selector = manifest["spec"]["selector"]["matchLabels"]
            case "Service":
                selector = manifest["spec"]["selector"]
            case "NetworkPolicy":
                selector = manifest["spec"]["podSelector"]["matchLabels"]
            case _:
                continue
        found = [name for name, labels in templates.items() if selector.items() <= labels.items()]
        assert found == [manifest["metadata"]["name"]]


def test_replicas_are_apart_and_one_goes_at_a_time() -> None:
    for options in ((), MATRIX["high availability"]):
        manifests = rendered(*options)
        for name, deployment in of_kind(manifests, "Deployment").items():
            if name.endswith("-tools"):
                continue  # people ask again
            assert deployment["spec"]["replicas"] >= 2
            assert of_kind(manifests, "PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
            keys = [spread["topologyKey"] for spread in pod(deployment)["topologySpreadConstraints"]]
            assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_a_single_replica_has_no_budget_that_would_stop_every_drain() -> None:
    assert not of_kind(rendered(*MATRIX["single replicas"]), "PodDisruptionBudget")


# -------------------------------------------------------------------------------------------------------------- tools


# ------------------------------------------------------------------------------------------------------------ webhook


def entries(*options: str) -> dict[str, Any]:
    (configuration,) = of_kind(rendered(*options), "MutatingWebhookConfiguration").values()
    return {entry["name"].partition(".")[0]: entry for entry in configuration["webhooks"]}


def test_the_entries_are_disjoint_and_leave_everybody_else_alone() -> None:
    found = entries("--set=webhook.excludedNamespaces={monitoring}")
    own, by_namespace = found["pod"], found["namespace"]
    assert own["objectSelector"]["matchLabels"] == {INJECT: "true"}
    assert by_namespace["namespaceSelector"]["matchLabels"] == {INJECT: "true"}
    assert {"key": INJECT, "operator": "NotIn", "values": ["false", "true"]} in by_namespace["objectSelector"][
        "matchExpressions"
    ]
    for entry in found.values():
        (excluded,) = [e for e in entry["namespaceSelector"]["matchExpressions"] if e["operator"] == "NotIn"]
        assert excluded["values"] == ["kube-system", "kube-node-lease", NAMESPACE, "monitoring"]
        assert {"key": "agentmemory.io/component", "operator": "DoesNotExist"} in entry["objectSelector"][
            "matchExpressions"
        ]
        assert entry["rules"] == [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ]
        assert (entry["sideEffects"], entry["reinvocationPolicy"], entry["timeoutSeconds"]) == ("None", "IfNeeded", 5)
        assert entry["matchPolicy"] == "Equivalent"
        assert entry["admissionReviewVersions"] == ["v1"]
        assert entry["matchConditions"][0]["name"] == "not-a-mirror-pod"
        assert entry["clientConfig"]["service"]["path"] == "/inject"


def test_named_namespaces_narrow_the_webhook() -> None:
    for entry in entries("--set=settings.namespaces={agents}").values():
        assert {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["agents"]} in entry[
            "namespaceSelector"
        ]["matchExpressions"]


def test_only_pods_that_asked_themselves_wait_for_the_webhook() -> None:
    assert {name: entry["failurePolicy"] for name, entry in entries().items()} == {"pod": "Fail", "namespace": "Ignore"}
    assert entries("--set=webhook.failurePolicy=Ignore")["pod"]["failurePolicy"] == "Ignore"


def test_the_policy_refuses_with_fail_and_warns_with_ignore() -> None:
    def actions(*options: str) -> dict[str, list[str]]:
        bindings = of_kind(rendered(*options), "ValidatingAdmissionPolicyBinding")
        return {name.rpartition("-")[2]: binding["spec"]["validationActions"] for name, binding in bindings.items()}

    assert actions() == {"pod": ["Deny"], "namespace": ["Warn", "Audit"]}
    assert actions("--set=webhook.failurePolicy=Ignore")["pod"] == ["Warn", "Audit"]
    assert actions("--set=webhook.policy=false") == {}


def test_the_policy_looks_at_the_pods_that_the_webhook_looks_at() -> None:
    manifests = rendered()
    for name, binding in of_kind(manifests, "ValidatingAdmissionPolicyBinding").items():
        entry = entries()[name.rpartition("-")[2]]
        assert binding["spec"]["matchResources"] == {key: entry[key] for key in ("namespaceSelector", "objectSelector")}


def test_there_is_no_policy_where_kubernetes_has_none() -> None:
    assert not of_kind(rendered(kube="1.29.0"), "ValidatingAdmissionPolicy")


def test_helm_never_writes_the_leader_s_bundle() -> None:
    assert all("caBundle" not in entry["clientConfig"] for entry in entries().values())


def test_a_provided_authority_is_published() -> None:
    authority = (Path(__file__).parent / "authority.pem").read_text()
    for entry in entries(*MATRIX["provided certificate"]).values():
        assert base64.b64decode(entry["clientConfig"]["caBundle"]).decode() == authority


def test_cert_manager_makes_certificate_and_bundle() -> None:
    manifests = rendered(*MATRIX["cert-manager"])
    (certificate,) = of_kind(manifests, "Certificate").values()
    (configuration,) = of_kind(manifests, "MutatingWebhookConfiguration").values()
    injected = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == f"{NAMESPACE}/{certificate['metadata']['name']}"
    assert f"am-agentmemory-webhook.{NAMESPACE}.svc" in certificate["spec"]["dnsNames"]
    assert certificate["spec"]["issuerRef"]["name"] in of_kind(manifests, "Issuer")
    operator = of_kind(manifests, "ClusterRole")["am-agentmemory-operator"]
    assert not any(resource == "mutatingwebhookconfigurations" for resource, _, _ in rules(operator))


# ------------------------------------------------------------------------------------------------------ what is optional


def test_nothing_optional_is_there_unasked() -> None:
    kinds = {manifest["kind"] for manifest in rendered()}
    assert not kinds & {"NetworkPolicy", "PodMonitor", "Issuer", "Certificate", "PriorityClass"}


def test_without_the_webhook_there_is_nothing_of_it() -> None:
    manifests = rendered(*MATRIX["no webhook"])
    assert not any("webhook" in manifest["metadata"]["name"] for manifest in manifests)
    assert not of_kind(manifests, "MutatingWebhookConfiguration")


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    text = (CHART / "dashboards" / "agentmemory.json").read_text(encoding="utf-8")
    asked = {word for target in _expressions(json.loads(text)) for word in _metrics(target)}
    sources = "\n".join(
        file.read_text(encoding="utf-8") for folder in ("operator", "sidecar") for file in (ROOT / folder).rglob("*.py")
    )
    for metric in asked:
        name = metric.removesuffix("_bucket").removesuffix("_total")
        assert f'"{name}"' in sources or f'"{name.removeprefix("agentmemory_")}"' in sources, metric
    assert asked
    (found,) = [
        m
        for n, m in of_kind(rendered("--set=monitoring.dashboard.enabled=true"), "ConfigMap").items()
        if n.endswith("-dashboard")
    ]
    assert found["data"]["agentmemory.json"] == text


def _expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def _metrics(expression: str) -> list[str]:
    words = "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()
    return [word for word in words if word.startswith("agentmemory_")]


def test_the_uninstall_hook_runs_before_anything_is_deleted() -> None:
    manifests = [m for m in rendered() if m["metadata"]["name"] == "am-agentmemory-uninstall"]
    assert {m["metadata"]["annotations"]["helm.sh/hook"] for m in manifests} == {"pre-delete"}
    (job,) = of_kind(manifests, "Job").values()
    assert "--force" not in pod(job)["containers"][0]["args"]
    assert job["spec"]["backoffLimit"] == 0
    assert "hook-failed" not in job["metadata"]["annotations"]["helm.sh/hook-delete-policy"]  # so that its log stays
    (forced,) = of_kind(rendered("--set=uninstall.force=true"), "Job").values()
    assert "--force" in pod(forced)["containers"][0]["args"]
