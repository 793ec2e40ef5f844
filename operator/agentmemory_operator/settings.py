"""What belongs to an installation and not to a resource: the Helm values, as the operator and the webhook read them."""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from agentmemory_sidecar.resource.common import PodResources, Quantity, Storage
from agentmemory_sidecar.resource.values import Duration, RegionName
from agentmemory_sidecar.resource.yamltext import dotted


class SettingsError(Exception):
    """The settings file cannot be used. The text names file, field and fix."""


class Values(BaseModel):
    """The base of the settings' models."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


class Images(Values):
    """Container images. All of them are pulled only if they are not on the node."""

    sidecar: str = "agentmemory-sidecar:0.1.0"
    """The sidecar in agents' pods."""
    stores: str = "agentmemory-stores:0.1.0"
    """The embedded tiers' pod."""
    redis: str = "redis:8"
    """A managed Redis: a stock image of Redis or Valkey."""
    pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the resource's namespace with registry credentials."""


class ManagedPods(Values):
    """Defaults of pods that the operator runs."""

    resources: PodResources = PodResources()
    """Requests and limits."""
    storage: Storage = Storage(size="1Gi")
    """The volume of each pod."""


class SidecarSettings(Values):
    """The injected container."""

    resources: PodResources = PodResources(requests={"cpu": "50m", "memory": "96Mi"}, limits={"memory": "256Mi"})
    """Requests and limits; a pod's annotations override them."""
    port: int = 8377
    """The loopback port that agents talk to."""
    probe_port: int = 8378
    """The port on the pod's address for probes and metrics."""
    image_pull_policy: Annotated[str, Field(pattern="^(Always|IfNotPresent|Never)$")] = "IfNotPresent"
    """When a node pulls the image."""
    guaranteed_cpu: Quantity = "500m"
    """CPU request and limit of a sidecar in a Guaranteed pod, which must have both."""
    run_as_user: int | None = 65532
    """The sidecar's user and group; null where the cluster chooses (OpenShift)."""
    drain: Duration = Duration.parse("20s")
    """How long a sidecar may need to end what it is doing; pods with a shorter grace period are warned of."""


class AwsSettings(Values):
    """How AWS is reached, and as whom."""

    dynamodb_endpoint: str = ""
    """DynamoDB's URL, for a VPC endpoint or a stand-in; empty for AWS's own."""
    s3_endpoint: str = ""
    """S3's URL; empty for AWS's own."""
    sts_endpoint: str = ""
    """The URL of STS, where the operator and the sidecars assume roles; empty for AWS's own."""
    operator_role_arn: str = ""
    """The role the operator assumes where a resource names none; empty for its pod's own identity."""
    sidecar_role_arn: str = ""
    """The role sidecars assume where a resource names none."""
    replication_role_arn: str = ""
    """The role S3 assumes to replicate where a resource names none."""
    identity: Annotated[str, Field(pattern="^(None|Irsa|PodIdentity)$")] = "None"
    """How injected sidecars get AWS credentials: `Irsa` (a projected token), `PodIdentity` (the agent on the node), or
    `None` (the resource's static keys)."""
    irsa_role_arn: str = ""
    """With `Irsa`: the role that sidecars are; a pod's annotation `agentmemory.io/role-arn` goes before it."""
    pod_identity_endpoint: str = "http://169.254.170.23/v1/credentials"
    """With `PodIdentity`: where the agent on the node answers; on IPv6 nodes http://[fd00:ec2::23]/v1/credentials."""


class WebhookSettings(Values):
    """The injection webhook, as the chart names its parts."""

    certificates: Annotated[str, Field(pattern="^(Builtin|CertManager|Provided)$")] = "Builtin"
    """Who makes the webhook's certificate: `Builtin` (the operator's leader, which also writes the configuration's
    caBundle and renews both), `CertManager`, or `Provided` (a Secret and a caBundle of yours)."""
    configuration: str = "agentmemory"
    """The MutatingWebhookConfiguration."""
    service: str = "agentmemory-webhook"
    """The Service in the operator's namespace that the API server calls."""
    secret: str = "agentmemory-webhook-tls"  # noqa: S105
    """The Secret in the operator's namespace with `tls.crt`, `tls.key` and, with `Builtin`, what the leader keeps."""


class Settings(Values):
    """One installation."""

    cluster_name: str = "default"
    """Tells clusters apart in ownership tags: give each cluster its own."""
    regions: tuple[RegionName, ...] = ()
    """The regions that this cluster holds; empty: what its nodes' labels say."""
    default_region: str = ""
    """The region of sidecars whose pod has no region label; empty for none."""
    namespaces: tuple[str, ...] = ()
    """The namespaces that are served; empty for all."""
    images: Images = Images()
    """Container images."""
    redis: ManagedPods = ManagedPods()
    """Defaults of managed Redis pods."""
    stores: ManagedPods = ManagedPods()
    """Defaults of the embedded tiers' pod."""
    sidecar: SidecarSettings = SidecarSettings()
    """The injected container."""
    aws: AwsSettings = AwsSettings()
    """How AWS is reached."""
    webhook: WebhookSettings = WebhookSettings()
    """The injection webhook."""
    resync: Duration = Duration.parse("5m")
    """How long the operator waits at most before it looks at everything again."""
    operator_namespace: str = "agentmemory-system"
    """Where the operator itself runs: its Lease and the webhook's certificates."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a YAML file. Raises SettingsError with every problem there is."""
        try:
            values = yaml.safe_load(file.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"{file}: cannot be read: {error}") from None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = (f"{file}: {dotted(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
            raise SettingsError("\n".join(lines)) from None
