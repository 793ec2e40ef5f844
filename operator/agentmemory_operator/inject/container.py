"""The sidecar as a container, and the volumes it needs."""

from collections.abc import Mapping
from typing import Any

from agentmemory_operator.inject.options import PREFIX, Options
from agentmemory_operator.inject.session import NO_SESSION, Session
from agentmemory_operator.names import DEFAULT_CONFIG_SECRET, NODE_REGION, config_secret
from agentmemory_operator.settings import AwsSettings, Settings

NAME = "agentmemory"
"""The container's name, and its port's."""
COMMAND = ("agentmemory", "sidecar")
"""How its command begins, which is how an injected pod is known."""
UPSTREAMS = "AGENTMEMORY_UPSTREAMS"
"""The sidecar's variable with the base URLs that containers had: a JSON object, container to URL."""

CONFIG_DIR = "/etc/agentmemory/config"
RUN_DIR = "/run/agentmemory"
TOKEN_DIR = "/var/run/secrets/agentmemory.io/aws"  # noqa: S105
CONFIG_VOLUME, TMP_VOLUME, RUN_VOLUME, TOKEN_VOLUME = (
    "agentmemory-config",
    "agentmemory-tmp",
    "agentmemory-run",
    "agentmemory-aws-token",
)
_AUDIENCES = {"Irsa": "sts.amazonaws.com", "PodIdentity": "pods.eks.amazonaws.com"}
_TOKEN_SECONDS = 86_400
_STARTUP_TRIES = 120
"""One a second: a pod whose sidecar does not start says so after two minutes."""


def sidecar(
    options: Options, settings: Settings, resources: Mapping[str, Any], upstreams: str, session: Session = NO_SESSION
) -> dict[str, Any]:
    """The container. ``upstreams`` is the value of UPSTREAMS, or empty."""
    own = settings.sidecar
    command = [
        *COMMAND,
        "--config-dir", CONFIG_DIR,
        "--listen", f"127.0.0.1:{own.port}",
        "--probes", f":{own.probe_port}",
        "--admin-socket", f"{RUN_DIR}/admin.sock",
        *(["--log-level", options.log_level] if options.log_level else []),
        *(["--require-backend"] if options.require_backend else []),
    ]  # fmt: skip
    container: dict[str, Any] = {
        "name": NAME,
        "image": options.image or settings.images.sidecar,
        "imagePullPolicy": options.image_pull_policy or own.image_pull_policy,
        "command": command,
        "restartPolicy": "Always",
        "ports": [{"name": NAME, "containerPort": own.probe_port, "protocol": "TCP"}],
        "env": environment(options, settings, upstreams, session),
        "resources": dict(resources),
        "securityContext": _security(own.run_as_user),
        # The next container starts only after this one has succeeded: the agent finds the proxy listening.
        "startupProbe": _probe(own.probe_port, "/readyz", period=1, failures=_STARTUP_TRIES),
        "livenessProbe": _probe(own.probe_port, "/livez", period=10, failures=3),
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": RUN_VOLUME, "mountPath": RUN_DIR},
            {"name": TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    if options.readiness:
        container["readinessProbe"] = _probe(own.probe_port, "/readyz", period=5, failures=3)
    if token_audience(options, settings.aws):
        container["volumeMounts"].append({"name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": True})
    return container


def environment(
    options: Options, settings: Settings, upstreams: str = "", session: Session = NO_SESSION
) -> list[dict[str, Any]]:
    """The sidecar's variables. Annotations come by the downward API: nothing in them is ever expanded."""
    variables = [
        downward("POD_NAME", "metadata.name"),
        downward("POD_NAMESPACE", "metadata.namespace"),
        downward("AGENTMEMORY_MEMORY", f"metadata.annotations['{PREFIX}memory']"),
        {"name": "AGENTMEMORY_CONFIG_SECRET", "value": _secret(options)},
        downward("AGENTMEMORY_REGION_ANNOTATION", f"metadata.annotations['{PREFIX}region']"),
        downward("AGENTMEMORY_REGION_LABEL", f"metadata.labels['{NODE_REGION}']"),
        {"name": "AGENTMEMORY_REGION_DEFAULT", "value": settings.default_region},
        downward("AGENTMEMORY_USER", f"metadata.annotations['{PREFIX}user']"),
        downward("AGENTMEMORY_PROJECT", f"metadata.annotations['{PREFIX}project']"),
    ]
    if session.value:
        variables += [downward(name, path) for name, path in session.variables.items()]
        variables.append({"name": "AGENTMEMORY_SESSION", "value": session.value})
    if upstreams:
        variables.append({"name": UPSTREAMS, "value": upstreams})
    return variables + _aws_environment(options, settings)


def volumes(options: Options, settings: Settings) -> list[dict[str, Any]]:
    """What the sidecar mounts. The configuration is optional: it may come after the pod."""
    found: list[dict[str, Any]] = [
        {"name": CONFIG_VOLUME, "secret": {"secretName": _secret(options), "optional": True, "defaultMode": 0o444}},
        {"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": TMP_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    if audience := token_audience(options, settings.aws):
        token = {"audience": audience, "expirationSeconds": _TOKEN_SECONDS, "path": "token"}
        projected = {"sources": [{"serviceAccountToken": token}], "defaultMode": 0o444}
        found.append({"name": TOKEN_VOLUME, "projected": projected})
    return found


def role(options: Options, aws: AwsSettings) -> str:
    """The role of the sidecar's own identity; empty where there is none."""
    return (options.role_arn or aws.irsa_role_arn) if aws.identity == "Irsa" else ""


def token_audience(options: Options, aws: AwsSettings) -> str:
    """Whom the sidecar's own token is for; empty for no token."""
    has_token = aws.identity == "PodIdentity" or role(options, aws)
    return _AUDIENCES[aws.identity] if has_token else ""


def _aws_environment(options: Options, settings: Settings) -> list[dict[str, Any]]:
    # EKS' own webhook gives these only to containers that are there when it looks, so they do not depend on it.
    if not token_audience(options, settings.aws):
        return []
    token = f"{TOKEN_DIR}/token"
    if settings.aws.identity == "PodIdentity":
        return [
            {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": settings.aws.pod_identity_endpoint},
            {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": token},
        ]
    region = options.region or settings.default_region
    return [
        {"name": "AWS_ROLE_ARN", "value": role(options, settings.aws)},
        {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": token},
        {"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "regional"},
        *([{"name": "AWS_ENDPOINT_URL_STS", "value": settings.aws.sts_endpoint}] if settings.aws.sts_endpoint else []),
        *([{"name": "AWS_REGION", "value": region}, {"name": "AWS_DEFAULT_REGION", "value": region}] if region else []),
    ]


def downward(name: str, path: str) -> dict[str, Any]:
    """A variable with what the running pod has at a field path."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _secret(options: Options) -> str:
    return config_secret(options.memory) if options.memory else DEFAULT_CONFIG_SECRET


def _probe(port: int, path: str, *, period: int, failures: int) -> dict[str, Any]:
    where = {"path": path, "port": port, "scheme": "HTTP"}
    return {"httpGet": where, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def _security(user: int | None) -> dict[str, Any]:
    """What the `restricted` standard asks of each container; it does not look at the pod's own settings."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        **({"runAsUser": user, "runAsGroup": user} if user is not None else {}),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
