"""Whose a table or bucket is, by its tags. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

TENANT = "agentmemory.io/tenant"
CLUSTER = "agentmemory.io/cluster"
RESOURCE = "agentmemory.io/resource"
MADE = "agentmemory.io/made"
"""The AWS regions in which we made the table, or its bucket: only there may it be deleted."""


class Standing(StrEnum):
    """Whose a store is."""

    OURS = "ours"
    RELEASED = "released"
    """This resource had it, and gave it up when it was deleted with Retain: it may have it back."""
    NOBODYS = "nobody's"
    ELSEWHERE = "elsewhere"
    """The same resource's, kept by the operator of another cluster."""
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a store of ours belongs to: never a uid, for a resource that is made anew is the same."""

    tenant: str
    cluster: str
    resource: str
    """``namespace/name``."""

    def tags(self, made: Iterable[str]) -> dict[str, str]:
        """What a store of ours carries."""
        return {
            TENANT: self.tenant,
            CLUSTER: self.cluster,
            RESOURCE: self.resource,
            MADE: " ".join(sorted(set(made))) or "none",
        }

    def standing(self, tags: Mapping[str, str]) -> Standing:
        """Whose a store with these tags is."""
        if not tags.keys() & {TENANT, CLUSTER, RESOURCE}:
            return Standing.NOBODYS
        if (tags.get(TENANT), tags.get(RESOURCE)) != (self.tenant, self.resource):
            return Standing.FOREIGN
        if CLUSTER not in tags:
            return Standing.RELEASED
        return Standing.OURS if tags[CLUSTER] == self.cluster else Standing.ELSEWHERE


def made_in(tags: Mapping[str, str]) -> frozenset[str]:
    """The regions that the tag names."""
    return frozenset(tags.get(MADE, "").split()) - {"none"}


def ours_to_take(standing: Standing, *, adopt: bool) -> bool:
    """Whether the store may be changed."""
    return standing in (Standing.OURS, Standing.RELEASED) or (adopt and standing is Standing.NOBODYS)


def refusal(what: str, standing: Standing, tags: Mapping[str, str]) -> str:
    """Why a store is left alone, and what to do."""
    if standing is Standing.NOBODYS:
        return f"{what} exists already and is nobody's: set spec.adopt: true to take it over, or choose another name"
    if standing is Standing.ELSEWHERE:
        return f"{what} is kept by the operator of cluster {tags.get(CLUSTER, '')}"
    owner = f"{tags.get(RESOURCE, 'another resource')} of tenant {tags.get(TENANT, 'unknown')}"
    return f"{what} belongs to {owner}: choose another name, or delete that resource first"


def missing_tags(wanted: Mapping[str, str], live: Mapping[str, str]) -> dict[str, str]:
    """What must be set so that all of ``wanted`` is there; other tags are somebody else's."""
    return {name: value for name, value in wanted.items() if live.get(name) != value}


def listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
