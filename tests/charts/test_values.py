"""The charts' values: what the programs read of them, what Helm refuses, and what the reference page lists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentmemory_operator import chart
from agentmemory_operator.settings import Settings
from tests.charts.helm import MATRIX, NAMESPACE, ROOT, Manifest, needs_helm, of_kind, pod, refused, rendered

pytestmark = needs_helm


def settings(manifests: list[Manifest], tmp_path: Path) -> Settings:
    (found,) = [m for name, m in of_kind(manifests, "ConfigMap").items() if name.endswith("-settings")]
    file = tmp_path / "settings.yaml"
    file.write_text(found["data"]["settings.yaml"], encoding="utf-8")
    return Settings.read(file)


@pytest.mark.parametrize("options", MATRIX.values(), ids=MATRIX)
def test_the_settings_file_is_what_the_programs_read(options: tuple[str, ...], tmp_path: Path) -> None:
    manifests = rendered(*options)
    read = settings(manifests, tmp_path)
    assert read.operator_namespace == NAMESPACE
    if webhooks := of_kind(manifests, "MutatingWebhookConfiguration"):
        assert read.webhook.configuration in webhooks
        assert read.webhook.service in of_kind(manifests, "Service")
        (deployment,) = [d for name, d in of_kind(manifests, "Deployment").items() if name.endswith("-webhook")]
        secrets = [volume["secret"]["secretName"] for volume in pod(deployment)["volumes"] if "secret" in volume]
        assert secrets == [read.webhook.secret]


def test_without_values_the_settings_are_the_models_own(tmp_path: Path) -> None:
    ours = settings(rendered("--set=fullnameOverride=agentmemory"), tmp_path)
    assert ours == Settings()


def test_a_change_of_the_settings_makes_new_pods() -> None:
    before, after = rendered(), rendered("--set=settings.defaultRegion=us-east-1")
    for name, deployment in of_kind(before, "Deployment").items():
        sums = [
            workload["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
            for workload in (deployment, of_kind(after, "Deployment")[name])
        ]
        assert sums[0] != sums[1], name


def test_the_schema_of_the_values_is_the_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert chart.main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().err


def test_a_stale_schema_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((ROOT / chart.SCHEMA).read_text())
    schema["properties"]["settings"] = {}
    (tmp_path / chart.CHART).mkdir(parents=True)
    (tmp_path / chart.SCHEMA).write_text(json.dumps(schema))
    (tmp_path / chart.VALUES).write_text((ROOT / chart.VALUES).read_text())
    assert chart.main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{chart.SCHEMA} differs from the models" in said
    assert f"{chart.PAGE} differs from the models" in said
    assert chart.main(["--root", str(tmp_path)]) == 0
    for file in (chart.SCHEMA, chart.PAGE):
        assert (tmp_path / file).read_text() == (ROOT / file).read_text()


def test_the_page_has_every_value_that_the_chart_has() -> None:
    def leaves(values: Any, path: str) -> Iterator[str]:
        if isinstance(values, dict) and values:
            for name, inner in values.items():
                yield from leaves(inner, f"{path}.{name}" if path else name)
        else:
            yield path

    page = (ROOT / chart.PAGE).read_text(encoding="utf-8")
    for path in leaves(yaml.safe_load((ROOT / chart.VALUES).read_text()), ""):
        # Below some values (resources, labels) anything may be; below settings.x the models say what.
        parents = [".".join(path.split(".")[: depth + 1]) for depth in range(path.count(".") + 1)]
        assert any(f"| `{parent}` |" in page for parent in parents) or f"| `{path}." in page, path


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--set=settings.clusterNam=x", "additional properties 'clusterNam' not allowed"),
        ("--set=settings.operatorNamespace=x", "additional properties 'operatorNamespace' not allowed"),
        ("--set-json=settings.regions=[\"US\"]", "at '/settings/regions/0'"),
        ("--set=settings.sidecar.resources.requests.cpu=1x", "at '/settings/sidecar/resources/requests/cpu'"),
        ("--set=webhook.failurePolicy=Maybe", "value must be one of 'Fail', 'Ignore'"),
        ("--set=webhook.certificates.mode=Provided", "at '/webhook/certificates/secretName'"),
        ("--set=operator.replicas=0", "at '/operator/replicas'"),
        ("--set=uninstal.force=true", "additional properties 'uninstal' not allowed"),
        ("--kube-version=1.28.0", "incompatible with Kubernetes v1.28.0"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused(option: str, says: str) -> None:
    assert says in refused(option)
