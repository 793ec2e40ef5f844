"""helm in tests: what the charts render to, as dictionaries."""

import functools
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
CHART = CHARTS / "agentmemory"
NAMESPACE = "agentmemory-system"

needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm on the PATH (make e2e has it)")

Manifest = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)


@functools.cache
def template(*options: str, kube: str = "1.35.4") -> str:
    """What the chart renders to, with options such as ``--set=a=b``."""
    done = helm("template", "am", str(CHART), f"--namespace={NAMESPACE}", f"--kube-version={kube}", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(*options: str, kube: str = "1.35.4") -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(template(*options, kube=kube)) if manifest]


def refused(*options: str) -> str:
    """What helm says about values that it does not take."""
    done = helm("template", "am", str(CHART), *options)
    assert done.returncode != 0, "these values were taken"
    return done.stderr


def of_kind(manifests: Iterable[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind, by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def pod(workload: Manifest) -> dict[str, Any]:
    """The pod's spec of a Deployment or a Job."""
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


MATRIX: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "high availability": (f"--values={CHART / 'values-ha.yaml'}",),
    "one namespace": ("--set=settings.namespaces={agents}",),
    "ignore": ("--set=webhook.failurePolicy=Ignore",),
    "no webhook": ("--set=webhook.enabled=false",),
    "no tools": ("--set=tools.enabled=false",),
    "single replicas": ("--set=webhook.replicas=1", "--set=operator.replicas=1"),
    "everything optional": (
        "--set=networkPolicy.enabled=true",
        "--set=monitoring.podMonitor.enabled=true",
        "--set=monitoring.podMonitor.labels.release=prometheus",
        "--set=monitoring.dashboard.enabled=true",
        "--set=imagePullSecrets[0].name=registry",
        "--set=operator.env[0].name=AWS_REGION",
        "--set=operator.env[0].value=us-east-1",
        "--set=operator.nodeSelector.pool=system",
        "--set=operator.podAnnotations.a=b",
        "--set=webhook.podAnnotations.a=b",
        "--set=webhook.excludedNamespaces={monitoring}",
        "--set=uninstall.force=true",
        "--set=tools.replicas=2",
        "--set=tools.apiTokens=false",
        "--set=tools.podAnnotations.a=b",
        "--set=tools.env[0].name=AWS_REGION",
        "--set=tools.env[0].value=us-east-1",
        "--set=tools.serviceAccount.annotations.a=b",
        "--set=fullnameOverride=memory",
    ),
    "cert-manager": ("--set=webhook.certificates.mode=CertManager",),
    "provided certificate": (
        "--set=webhook.certificates.mode=Provided",
        "--set=webhook.certificates.secretName=own-tls",
        f"--set-file=webhook.certificates.caBundle={Path(__file__).parent / 'authority.pem'}",
    ),
}
"""Values that differ in what they render."""
FOREIGN = ("monitoring.coreos.com/v1", "cert-manager.io/v1")
"""Kinds that a bare cluster does not know."""


def rules(role: Manifest) -> set[tuple[str, str, str]]:
    """(resource, verb, name or empty) for all that a role allows."""
    return {
        (resource, verb, name)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }
