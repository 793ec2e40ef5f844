"""What must hold of declared scopes and grants. Pure: a spec in, problems out."""

from collections.abc import Iterator, Sequence

from agentmemory_sidecar.resource.scopes import Grant, Scope, ScopeEntry
from agentmemory_sidecar.resource.state import State
from agentmemory_sidecar.resource.state_schema import OWN

Found = tuple[tuple[str | int, ...], str]
"""A path below ``spec.state``, and what is wrong there, with what to do."""
SHARED = "shared"
"""The member of a state as it is read that holds what others share."""
MOST_OWNERS = 16
"""Owners whose states grants may name: each is one read more for a request that a grant is for."""


def wrong(state: State) -> Iterator[Found]:
    """All that is wrong of ``scopes`` and ``grants``."""
    scopes = state.in_order
    for index, entry in enumerate(scopes):
        where = ("scopes", index)
        if entry.scope in [other.scope for other in scopes[:index]]:
            yield (*where, "scope"), f"is {entry.scope.value} a second time: make one entry of the two"
        elif entry.scope is Scope.SESSION and index:
            yield (*where, "scope"), "is Session, the narrowest: scopes are in order of precedence, so put it first"
        if entry.pointers and not index:
            yield (*where, "pointers"), "are of the first scope, which is home to all else: leave them out"
        elif index and not entry.pointers:
            yield (*where, "pointers"), "are missing: only the first scope is home to all else"
        yield from _pointers(scopes, index)
    for index, grant in enumerate(state.grants):
        for path, message in _grant(grant, scopes):
            yield ("grants", index, *path), message
    yield from _shared(state)


def covers(outer: str, inner: str) -> bool:
    """Whether ``inner`` is what ``outer`` names, or lies in it."""
    return inner == outer or inner.startswith(outer + "/")


def _pointers(scopes: Sequence[ScopeEntry], index: int) -> Iterator[Found]:
    before = [(entry.scope, pointer) for entry in scopes[:index] for pointer in entry.pointers]
    for at, pointer in enumerate(scopes[index].pointers):
        where = ("scopes", index, "pointers", at)
        if not pointer:
            yield where, "is the whole state, which is the first scope's: name a place in it"
            continue
        if covers("/metadata", pointer):
            yield where, "is not to be shared: each state has metadata of its own"
        elif covers("/" + SHARED, pointer):
            yield where, f"is where the shared states of others are read: name another place than /{SHARED}"
        for scope, other in [*before, *((scopes[index].scope, one) for one in scopes[index].pointers[:at])]:
            if other and (covers(other, pointer) or covers(pointer, other)):
                said = "is named twice" if other == pointer else f"overlaps {other}"
                yield where, f"{said}: a place has one home, and this is {scope.value}'s already"
                break


def _grant(grant: Grant, scopes: Sequence[ScopeEntry]) -> Iterator[Found]:
    home = next((entry for entry in scopes if entry.scope is grant.scope), None)
    if home is None:
        yield (
            ("scope",),
            f"is {grant.scope.value}, which is not among the scopes: add it to state.scopes, or name another",
        )
        return
    if not grant.of and home.access.value != "Granted":
        yield (
            ("of",),
            (
                f"is missing: without it the grant is for sessions of the same {grant.scope.value.lower()}, and those may "
                "do everything; name whose part is granted, or give the scope `access: Granted`"
            ),
        )
    if "*" in grant.of:
        yield ("of", grant.of.index("*")), "is nobody's name: say whose part is granted, one by one"
    others = [pointer for entry in scopes if entry is not home for pointer in entry.pointers]
    for at, pointer in enumerate(grant.pointers):
        where = ("pointers", at)
        inside = any(covers(one, pointer) for one in home.pointers) if home.pointers else True
        if not inside or any(covers(one, pointer) for one in others):
            yield where, f"is not at home in {grant.scope.value}: name a place that scopes gives it"
        elif pointer == "" or any(covers(f"/{own}", pointer) for own in ("metadata", SHARED)):
            yield where, "is no place that can be granted: name a member other than metadata, or leave pointers out"
        elif grant.of and any(covers(f"/{own}", pointer) for own in OWN):
            yield where, "is not shared with others: the files of the memory tool reach the owner's own sessions only"


def _shared(state: State) -> Iterator[Found]:
    owners = {(grant.scope, name) for grant in state.grants for name in grant.of}
    if not owners:
        return
    if len(owners) > MOST_OWNERS:
        yield ("grants",), f"name {len(owners)} owners in `of`: at most {MOST_OWNERS}, since each is read by itself"
    members = state.schema_.definition.get("properties") if state.schema_ else None
    if isinstance(members, dict) and SHARED in members:
        where = ("schema", "definition", "properties", SHARED)
        yield where, "is where the shared states of others are read: name it otherwise, or leave grants out"
