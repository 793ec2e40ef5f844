"""What the AWS tiers read of a resource: where to call, as whom, whose the stores are."""

from agentmemory_operator.aws import Access
from agentmemory_operator.conditions import ConditionType
from agentmemory_operator.names import REMOVE_REGION
from agentmemory_operator.observe.secrets import SecretValues
from agentmemory_operator.plan.aws import Owner
from agentmemory_operator.tiers import Subject, TierFailed
from agentmemory_sidecar.resource import Unresolved
from agentmemory_sidecar.resource.agentmemory import LOCAL_REGION
from agentmemory_sidecar.resource.base import at
from agentmemory_sidecar.resource.common import AwsAccess, ValueFrom


class NoAccess(TierFailed):
    """What a service is called with cannot be had: a Secret is missing, or has not what it should."""


def nowhere(subject: Subject, store: AwsAccess, endpoint: str) -> str:
    """What is wrong with a resource that names no region of AWS; empty for nothing."""
    if LOCAL_REGION not in subject.resource.spec.regions or endpoint:
        return ""
    here = at(store, LOCAL_REGION)
    if here.aws_region or here.endpoint:
        return ""
    return "there is no AWS region called local: name the regions in spec.regions, or give awsRegion"


def access(subject: Subject, store: AwsAccess, region: str, endpoint: str, values: SecretValues) -> Access:
    """How the operator calls a service in one region: the resource's word, else the installation's.

    ``store`` is what holds in that region, ``endpoint`` the installation's. Raises NoAccess.
    """
    known = subject.settings.aws
    keys, tls = store.credentials, store.tls

    def value(source: ValueFrom | None) -> str:
        if source is None:
            return ""
        try:
            return values.resolve(source)
        except Unresolved as error:
            raise NoAccess(str(error)) from None

    return Access(
        region=store.aws_region or region,
        endpoint=store.endpoint or endpoint,
        sts_endpoint=known.sts_endpoint,
        role_arn=store.operator_role_arn or known.operator_role_arn,
        access_key_id=value(keys.access_key_id_from if keys else None),
        secret_access_key=value(keys.secret_access_key_from if keys else None),
        session_token=value(keys.session_token_from if keys else None),
        ca_pem=value(tls.ca_from if tls else None),
        certificate_pem=value(tls.certificate_from if tls else None),
        key_pem=value(tls.key_from if tls else None),
    )


def owner(subject: Subject) -> Owner:
    """Who the resource's stores belong to."""
    resource = f"{subject.namespace}/{subject.name}"
    return Owner(subject.resource.tenant, subject.settings.cluster_name, resource)


def leaving(subject: Subject) -> tuple[str, ...]:
    """The regions that the annotation names and the resource no longer has."""
    named = subject.resource.metadata.annotations.get(REMOVE_REGION, "").replace(",", " ").split()
    return tuple(region for region in dict.fromkeys(named) if region not in subject.resource.spec.regions)


def abandoned(subject: Subject) -> tuple[str, ...]:
    """The regions that the annotation names: a deletion does not wait for them."""
    return tuple(subject.resource.metadata.annotations.get(REMOVE_REGION, "").replace(",", " ").split())


def settled(subject: Subject, condition: ConditionType) -> bool:
    """Whether the condition was True at this generation of the resource, as its status says."""
    rows = (subject.manifest.get("status") or {}).get("conditions") or ()
    generation = subject.resource.metadata.generation
    return any(
        (row.get("type"), row.get("status"), row.get("observedGeneration")) == (condition, "True", generation)
        for row in rows
    )
