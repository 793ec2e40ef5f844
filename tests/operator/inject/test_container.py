"""The container and its volumes; and that AWS' own client takes its identity from what they say."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

import botocore.session
import pytest

from agentmemory_operator.inject.container import TOKEN_DIR, environment, volumes
from agentmemory_operator.inject.options import Options
from agentmemory_operator.settings import Settings
from tests.operator.inject import foreign, goldens

STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIAIRSA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>2126-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>i:s</AssumedRoleId></AssumedRoleUser>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
POD_IDENTITY = {"AccessKeyId": "AKIAPOD", "SecretAccessKey": "s", "Token": "t", "Expiration": "2126-01-01T00:00:00Z"}


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Endpoint:
    """Answers as STS and as EKS' agent on the node, and keeps what it was asked."""

    def __init__(self) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.tokens: list[str] = []
        self._server = make_server("127.0.0.1", 0, self._answer, handler_class=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        self.forms.append(parse_qs(body))
        self.tokens.append(environ.get("HTTP_AUTHORIZATION", ""))
        start("200 OK", [("Content-Type", "text/xml" if body else "application/json")])
        return [(STS if body else json.dumps(POD_IDENTITY)).encode()]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    yield found
    found.close()


@pytest.fixture
def pod_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Puts the sidecar's literal variables into this process, with the token where the volume would put it."""
    (tmp_path / "token").write_text("the-token")

    def put(env: list[Mapping[str, Any]]) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for entry in env:
            if "value" in entry:
                monkeypatch.setenv(entry["name"], entry["value"].replace(TOKEN_DIR, str(tmp_path)))

    return put


def test_aws_takes_the_role_of_irsa(endpoint: Endpoint, pod_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pod_env(environment(Options(), goldens.settings("irsa")))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint.url)
    credentials = botocore.session.Session().get_credentials()
    assert credentials is not None
    assert credentials.get_frozen_credentials().access_key == "AKIAIRSA"
    (form,) = endpoint.forms
    assert form["RoleArn"] == ["arn:aws:iam::123456789012:role/agentmemory"]
    assert form["WebIdentityToken"] == ["the-token"]


def test_aws_takes_the_identity_of_the_pod(endpoint: Endpoint, pod_env: Any) -> None:
    aws = {"identity": "PodIdentity", "podIdentityEndpoint": f"{endpoint.url}/v1/credentials"}
    pod_env(environment(Options(), Settings.model_validate({"aws": aws})))
    credentials = botocore.session.Session().get_credentials()
    assert credentials is not None
    assert credentials.get_frozen_credentials().access_key == "AKIAPOD"
    assert endpoint.tokens == ["the-token"]


def names(values: Settings, **annotations: str) -> set[str]:
    options = Options.read({f"agentmemory.io/{name}": value for name, value in annotations.items()})
    return {entry["name"] for entry in environment(options, values)}


def test_irsa_without_a_role_is_left_to_eks_own_webhook() -> None:
    values = Settings.model_validate({"aws": {"identity": "Irsa"}})
    assert not any(name.startswith("AWS_") for name in names(values))
    assert len(volumes(Options(), values)) == 3
    assert "AWS_ROLE_ARN" in names(values, **{"role-arn": "arn:aws:iam::1:role/x"})


def test_a_pods_own_role_and_region_go_before_the_installations() -> None:
    options = Options.read(
        {"agentmemory.io/role-arn": "arn:aws:iam::1:role/x", "agentmemory.io/region": "eu-west-1"}
    )  # fmt: skip
    env = {entry["name"]: entry.get("value") for entry in environment(options, goldens.settings("irsa"))}
    assert (env["AWS_ROLE_ARN"], env["AWS_REGION"]) == ("arn:aws:iam::1:role/x", "eu-west-1")


def test_a_cluster_may_choose_the_user() -> None:
    values = Settings.model_validate({"sidecar": {"runAsUser": None}})
    context = foreign.ours(values)(goldens.pod("plain"))["spec"]["initContainers"][0]["securityContext"]
    assert not {"runAsUser", "runAsGroup"} & set(context)
    assert context["runAsNonRoot"] is True


def test_a_long_name_of_a_resource_has_a_secret_too() -> None:
    secret = volumes(Options.read({"agentmemory.io/memory": "m" * 253}), Settings())[0]["secret"]["secretName"]
    assert len(secret) == 253
