"""Scopes and grants as a sidecar has them."""

from agentmemory_sidecar.resource.formats import Config
from agentmemory_sidecar.resource.scopes import Access, Right, Scope
from agentmemory_sidecar.resource.state import State


class ScopeConfig(Config):
    """A scope, and what of the state is at home in it."""

    scope: Scope
    """Whose the part is."""
    pointers: tuple[str, ...] = ()
    """The places that are at home in it; none where that is all that has no other home."""
    granted: bool = False
    """Whether the owner's own sessions too do only what a grant allows."""


class GrantConfig(Config):
    """What somebody may do with a part of a user's or project's state."""

    agents: tuple[str, ...] = ()
    """Agents it is for; empty where that does not matter, as of the three below."""
    users: tuple[str, ...] = ()
    """Users it is for."""
    projects: tuple[str, ...] = ()
    """Projects whose sessions it is for."""
    groups: tuple[str, ...] = ()
    """Groups it is for."""
    write: bool = False
    """Whether the part may be changed; it may be read in any case."""
    scope: Scope
    """Whether it is of users or of projects."""
    of: tuple[str, ...] = ()
    """Which; empty for the request's own."""
    pointers: tuple[str, ...] = ()
    """The places; empty for all that is at home in the scope."""


def scopes_of(state: State) -> tuple[ScopeConfig, ...]:
    """The scopes that a resource declares, in order."""
    return tuple(
        ScopeConfig(scope=each.scope, pointers=each.pointers, granted=each.access is Access.GRANTED)
        for each in state.in_order
    )


def grants_of(state: State) -> tuple[GrantConfig, ...]:
    """The grants that a resource declares."""
    return tuple(
        GrantConfig(
            agents=grant.to.agents,
            users=grant.to.users,
            projects=grant.to.projects,
            groups=grant.to.groups,
            write=grant.access is Right.WRITE,
            scope=grant.scope,
            of=grant.of,
            pointers=grant.pointers,
        )
        for grant in state.grants
    )
