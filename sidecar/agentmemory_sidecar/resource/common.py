"""Pieces that several tiers share: where secrets come from, TLS, AWS access, and what a managed pod may have."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from agentmemory_sidecar.resource.base import Choice, Model, invalid, keyed_by
from agentmemory_sidecar.resource.values import Arn, HttpUrl, Labels, Line, ObjectName, RegionName, Text

Quantity = Annotated[
    str,
    Text(
        r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        "a Kubernetes quantity, such as 250m or 1Gi",
        longest=32,
        kind="quantity",
    ),
]
ResourceMap = Annotated[dict[str, Quantity], Field(max_length=16)]


class SecretKeyRef(Model):
    """One key of a Kubernetes Secret in the resource's namespace."""

    name: ObjectName
    """The Secret's name. On a laptop: a folder of that name in the folder given by `--secrets`."""
    key: Annotated[
        str, Text(r"^\.*[-_a-zA-Z0-9][-._a-zA-Z0-9]*$", "a key of a Secret: letters, digits, dashes, dots", longest=253)
    ]
    """The key in the Secret. On a laptop: the file of that name in the Secret's folder."""


class ValueFrom(Model):
    """Where a value comes from that does not belong in the YAML. Give exactly one."""

    choices = (Choice(("secretKeyRef", "env", "file"), "a value comes from one place"),)

    secret_key_ref: SecretKeyRef | None = None
    """A key of a Secret in the resource's namespace; works on a cluster and on a laptop."""
    env: Annotated[str, Text(r"^[A-Za-z_][A-Za-z0-9_]*$", "an environment variable's name", longest=253)] | None = None
    """An environment variable of the sidecar's process; on a laptop only."""
    file: Line | None = None
    """A file, relative to the YAML file's folder; one line break at its end is dropped. On a laptop only."""


class Tls(Model):
    """Whom to trust, and who to be, on a TLS connection. Texts are PEM."""

    cel = (
        (
            "has(self.certificateFrom) == has(self.keyFrom)",
            "certificateFrom and keyFrom belong together: give both or neither",
        ),
    )

    ca_from: ValueFrom | None = None
    """The certificate authorities to trust, PEM; without it, the system's."""
    certificate_from: ValueFrom | None = None
    """A client certificate with its chain, PEM, for servers that ask for one. Needs `keyFrom`."""
    key_from: ValueFrom | None = None
    """The client certificate's private key, PEM."""
    server_name: Line | None = None
    """The name the server's certificate must carry, where it is not the host that is connected to."""

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.certificate_from is None) != (self.key_from is None):
            raise invalid("certificateFrom and keyFrom belong together: give both or neither")
        return self


class AwsCredentials(Model):
    """A static key pair. Roles (IRSA, Pod Identity) are better: omit this block to use the pod's own identity."""

    access_key_id_from: ValueFrom
    """The access key's id."""
    secret_access_key_from: ValueFrom
    """The secret access key."""
    session_token_from: ValueFrom | None = None
    """The session token, for temporary keys."""


class AwsAccess(Model):
    """How to reach an AWS service, and as whom. What belongs to an installation is better a Helm value."""

    endpoint: HttpUrl | None = None
    """The service's URL, for a VPC endpoint or a stand-in; without it, AWS's own for the region."""
    aws_region: RegionName | None = None
    """The AWS region to call and sign for, where it is not called as the resource's region is."""
    role_arn: Arn | None = None
    """A role that the sidecar assumes before it calls the service."""
    operator_role_arn: Arn | None = None
    """A role that the operator assumes to create and watch what the tier needs."""
    kms_key_arn: Arn | None = None
    """The customer's KMS key that encrypts the tier at rest; without it, the service's own key."""
    credentials: AwsCredentials | None = None
    """A static key pair, instead of the identity the process has."""
    tls: Tls | None = None
    """TLS settings for `endpoint`."""


class Storage(Model):
    """A volume of a pod that the operator runs."""

    size: Quantity | None = None
    """The volume's size, such as `8Gi`; it can grow where the storage class allows it, never shrink."""
    storage_class_name: ObjectName | None = None
    """The storage class; without it, the cluster's default."""


class PodResources(Model):
    """Requests and limits of a container that the operator runs, as Kubernetes writes them."""

    requests: ResourceMap = Field(default_factory=dict)
    """What is reserved, such as `{cpu: 250m, memory: 512Mi}`."""
    limits: ResourceMap = Field(default_factory=dict)
    """What is never exceeded, such as `{memory: 1Gi}`."""


class Pods(Model):
    """How the pods of a tier that the operator runs look."""

    image: Line | None = None
    """The container image; without it, the installation's default (a Helm value)."""
    resources: PodResources | None = None
    """Requests and limits of each pod; without it, the installation's default."""
    storage: Storage | None = None
    """The volume of each pod; without it, the installation's default."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels a node must have."""


class Embedded(Pods):
    """A store of ours: a process beside the sidecar on a laptop, one small StatefulSet on a cluster. For first tries,
    not for production: there is one copy of the data. `embedded: {}` is complete; the fields matter on a cluster."""


PER_REGION = Field(default=(), max_length=16, json_schema_extra=keyed_by("region"))
"""A list of overrides keyed by region."""
