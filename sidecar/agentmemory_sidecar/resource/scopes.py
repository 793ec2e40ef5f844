"""`spec.state.scopes` and `grants`: whom the parts of a state belong to, and who besides may see or change them."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from agentmemory_sidecar.resource.base import Model, invalid
from agentmemory_sidecar.resource.values import Id, Pointer


class Scope(StrEnum):
    """Whom one state object belongs to."""

    SESSION = "Session"
    USER = "User"
    PROJECT = "Project"


class Access(StrEnum):
    """Who among the owner's own sessions."""

    OWNER = "Owner"
    GRANTED = "Granted"


class Right(StrEnum):
    """What a grant allows."""

    READ = "Read"
    WRITE = "Write"


class ScopeEntry(Model):
    """One of several scopes, and what of the state is at home in it."""

    scope: Scope
    """Whose the part is: the session's, the user's or the project's."""
    pointers: Annotated[tuple[Pointer, ...], Field(max_length=16)] = ()
    """The places that are at home here, as JSON pointers; none for the first scope, which is home to all else."""
    access: Access = Access.OWNER
    """`Owner`: all agents of the owner's sessions read and write it. `Granted`: they too do only what a grant allows."""


_Names = Annotated[tuple[Id, ...], Field(max_length=32)]


class Grantees(Model):
    """Who has a grant: those who are named under every member that is given. `*` is anybody who says a name there."""

    cel = (
        (
            "has(self.agents) && size(self.agents) > 0 || has(self.users) && size(self.users) > 0 || "
            "has(self.projects) && size(self.projects) > 0 || has(self.groups) && size(self.groups) > 0",
            "name somebody: agents, users, projects or groups",
        ),
    )

    agents: _Names = ()
    """Agents: `root`, or a subagent by its type (`X-Claude-Code-Agent-Type`) or its id (`X-Claude-Code-Agent-Id`)."""
    users: _Names = ()
    """Users, as `session.identity` finds them."""
    projects: _Names = ()
    """Those who work on these projects, as `session.identity` finds them."""
    groups: _Names = ()
    """Members of these groups, as `session.identity.groupHeaders` says."""

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if not (self.agents or self.users or self.projects or self.groups):
            raise invalid("name somebody: agents, users, projects or groups")
        return self


class Grant(Model):
    """What somebody may do with a part of a user's or project's state."""

    cel = (("self.scope != 'Session'", "scope must be User or Project: a session's own part is not shared"),)

    to: Grantees
    """Who."""
    access: Right
    """`Read`, or `Write`, which is to read and to write."""
    scope: Scope
    """`User` or `Project`: one of the resource's scopes."""
    of: Annotated[tuple[Id, ...], Field(max_length=16)] = ()
    """Whose: users or projects by name, whose part then also reaches those who do not belong to them, below `/shared`.
    Without it, the user or project that a request itself belongs to, which says something only where the scope's access
    is `Granted`."""
    pointers: Annotated[tuple[Pointer, ...], Field(max_length=16)] = ()
    """The places, as JSON pointers; without them, all that is at home in the scope."""

    @model_validator(mode="after")
    def _shares_no_session(self) -> Self:
        if self.scope is Scope.SESSION:
            raise invalid("scope must be User or Project: a session's own part is not shared")
        return self
