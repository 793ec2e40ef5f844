"""The form that the resource declares for states: what one begins as, whether one fits, and how older ones are read.

A state says its version in ``metadata.v``. One that is older than the declared form is migrated whenever it is read, and
stored as such with the next change; one that is newer is left to sidecars that know its form (``is_newer``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agentmemory_sidecar.memory import pointer as ptr
from agentmemory_sidecar.memory.item import OutgoingPatch
from agentmemory_sidecar.memory.state import Operation, Patch, State, apply_one, decode_patch, diff, encode_patch
from agentmemory_sidecar.resource import state_schema as forms

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

    from agentmemory_sidecar.resource.config import FormConfig, SidecarConfig

MASK = "(personal data)"
MOST_TOLD = 10
"""Problems that are told of one patch."""


class Refused(msgspec.Struct, frozen=True):
    """A patch that would have made a state that does not fit, kept to be shown and decided by a person."""

    patch: Patch
    refused: tuple[dict[str, str], ...]
    """What would not have fitted: ``pointer`` and ``problem``, without any value."""

    def encoded(self) -> bytes:
        """As it is kept in the item."""
        return msgspec.json.encode(self)


@dataclass(frozen=True, slots=True)
class _Step:
    from_: str
    to: str
    operations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Form:
    """One declared form."""

    version: str
    definition: Mapping[str, Any] | None
    steps: Mapping[str, _Step]
    """Migrations by the version they begin with."""
    pii: tuple[str, ...] = ()

    @cached_property
    def _valid(self) -> "Draft202012Validator | None":
        return forms.validator(self.definition) if self.definition is not None else None

    def beginning(self, user: str) -> State:
        """A state that knows nothing yet."""
        return forms.beginning(user, self.version, self.definition)

    def is_newer(self, version: str) -> bool:
        """Whether this is a form of later sidecars."""
        return forms.number(version) > forms.number(self.version)

    def knows(self, state: State) -> bool:
        """Whether a change may be made to this state by who has this form."""
        return not self.is_newer(version_of(state))

    def read(self, state: State) -> State:
        """The state in this form: migrated where it is older and migrations lead here, else as it is."""
        return forms.migrated(state, self.steps, self.version) if self.steps and state else state

    def refusal(self, before: State, after: State) -> tuple[dict[str, str], ...]:
        """What does not fit of a changed state and was not as wrong before it; nothing where the change may stand."""
        if self._valid is None:
            return ()
        wrong = forms.misfits(self._valid, after)
        known = forms.misfits(self._valid, before) if wrong else {}
        new = [{"pointer": place, "problem": said} for place, said in wrong.items() if known.get(place) != said]
        return tuple(new[:MOST_TOLD])

    def misfits(self, state: State) -> list[dict[str, str]]:
        """What does not fit of a state as it was read; first of all its version."""
        found: list[dict[str, str]] = []
        if state and forms.number(version_of(state)) < forms.number(self.version):
            stays = f"stays {version_of(state)}: no migrations lead to {self.version}, or one does not apply"
            found.append({"pointer": "/metadata/v", "problem": stays})
        wrong = forms.misfits(self._valid, state) if self._valid is not None else {}
        return found + [{"pointer": place, "problem": said} for place, said in wrong.items()]

    def masked(self, state: State) -> State:
        """The state to be shown to people: without what tells of a person."""
        for place in self.pii:
            if ptr.get(state, place) not in (ptr.ABSENT, None):
                state = apply_one(state, Operation("set", place, MASK))
        return state

    def carried(self, outgoing: OutgoingPatch) -> OutgoingPatch:
        """A patch that was made for an older form, at the places that its fields have now."""
        moves = self._moves(outgoing.version)
        if not moves:
            return outgoing
        patch = decode_patch(outgoing.patch)
        moved = tuple(
            Operation(operation.op, _moved(operation.pointer, moves), operation.value) for operation in patch.operations
        )
        seen = {_moved(place, moves): digest for place, digest in outgoing.seen.items()}
        data = encode_patch(msgspec.structs.replace(patch, operations=moved))
        return msgspec.structs.replace(outgoing, patch=data, seen=seen)

    def _moves(self, version: str) -> list[tuple[str, str]]:
        """Where fields went since a version, in order."""
        found: list[tuple[str, str]] = []
        while (step := self.steps.get(version)) is not None and not self.is_newer(step.to):
            found += [(str(each["from"]), str(each["path"])) for each in step.operations if each["op"] == "move"]
            version = step.to
        return found


def form_of(config: "SidecarConfig") -> Form:
    """The form that a configuration declares."""
    return declared(config.schema_version, config.form)


def version_of(state: State) -> str:
    metadata = state.get("metadata")
    return str(metadata.get("v", forms.REFERENCE)) if isinstance(metadata, dict) else forms.REFERENCE


def migration(stored: State, read: State) -> tuple[Operation, ...]:
    """What makes of a stored state the one that it was read as."""
    return tuple(diff(stored, read))


@lru_cache(maxsize=16)
def declared(version: str, config: "FormConfig | None") -> Form:
    """The form of a version; what it holds is compiled once."""
    if config is None:
        return Form(version, None, {})
    steps = {
        each.from_version: _Step(each.from_version, each.to_version, msgspec.json.decode(each.patch))
        for each in config.migrations
    }
    definition = msgspec.json.decode(config.definition) if config.definition else None
    return Form(version, definition, steps, config.pii)


def _moved(place: str, moves: Sequence[tuple[str, str]]) -> str:
    for start, end in moves:
        if ptr.covers(start, place):
            place = end + place.removeprefix(start)
    return place
