"""The table of a resource that lives: make it, keep it, say how it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmemory_operator.conditions import ConditionType, Reason
from agentmemory_operator.names import REMOVE_REGION
from agentmemory_operator.plan.aws import Standing, listed, made_in, missing_tags, ours_to_take, refusal
from agentmemory_operator.plan.dynamodb.values import (
    ACTIVE,
    CREATION_FAILED,
    MOVING,
    UPDATING,
    CreateReplica,
    CreateTable,
    DeleteReplica,
    MakeStrong,
    Place,
    Seen,
    SetExpiry,
    SetKey,
    SetProtection,
    SetRecovery,
    TableAction,
    TagTable,
    Wanted,
)
from agentmemory_operator.plan.values import Action, Condition, Plan

SOON_S = 3.0
"""After a step of ours."""
MOVING_S = 10.0
"""While AWS works, which takes minutes."""
AWAY_S = 30.0


def keep(wanted: Wanted, seen: Mapping[str, Seen], *, settled: bool) -> Plan:
    """What brings the table to what is wanted.

    ``seen`` by AWS region, for every wanted and leaving place. ``settled``: all was well at this generation of the
    resource before, so that what differs now was changed by somebody else.
    """
    look = _Look(wanted, seen)
    home = look.home()
    if home is None:
        return look.begin()
    look.members(home)
    settings = [action for place in wanted.places if look.mine(place, home) for action in look.settings(place, home)]
    operation = None if any(isinstance(action, SetProtection) for action in settings) else look.operation(home)
    actions: list[Action] = [*settings, *([operation] if operation else [])]
    repaired = [action.describe() for action in actions] if settled else []
    ready = not look.problems and all(look.status(place, home) == ACTIVE for place in wanted.places)
    # Settings that somebody changed do not keep a table from serving; those that were never made yet might.
    ready = ready and (settled or not actions)
    again_s = SOON_S if actions else look.patience(home)
    return Plan(
        tuple(actions),
        (look.condition(ready, home),),
        again_s,
        drift=tuple(repaired),
        notes=look.notes(home),
        withheld=look.withheld(home),
    )


def members(wanted: Wanted, seen: Mapping[str, Seen]) -> tuple[Place, ...]:
    """Where the table is this operator's own and takes writes, as far as its first region knows; empty for fewer than
    two."""
    look = _Look(wanted, seen)
    home = look.home()
    if home is None or look.at(home).standing(wanted.owner) is not Standing.OURS:
        return ()
    found = tuple(place for place in wanted.places if look.status(place, home) in (ACTIVE, UPDATING))
    return found if len(found) > 1 else ()


@dataclass(slots=True)
class _Look:
    wanted: Wanted
    seen: Mapping[str, Seen]
    problems: list[tuple[Reason, str]] = field(default_factory=list)
    stuck: bool = False
    """Whether the table cannot become what is wanted, so that no replica of it is made or deleted."""

    def at(self, place: Place) -> Seen:
        return self.seen[place.aws_region]

    def status(self, place: Place, home: Place) -> str:
        """Of a member of home's global table: what its own region says, where that can be asked; empty for no member."""
        mine = self.at(place)
        if place == home:
            return mine.status
        known = self.at(home).replicas.get(place.aws_region, "")
        return (mine.status or "CREATING") if known == ACTIVE and not mine.away else known

    # ----------------------------------------------------------------------------------------------------------- whose

    def home(self) -> Place | None:
        """The first place whose table is ours to change; operations on replicas are asked there."""
        for place in self.wanted.places:
            table = self.at(place)
            if table.there and not table.unlike and self._takeable(table) and self._undisputed(place):
                return place
        return None

    def _takeable(self, table: Seen) -> bool:
        return ours_to_take(table.standing(self.wanted.owner), adopt=self.wanted.adopt)

    def _undisputed(self, place: Place) -> bool:
        """Whether no other replica is somebody else's. A table that is not ours yet is taken only once all are seen."""
        table, owner = self.at(place), self.wanted.owner
        if table.standing(owner) is Standing.OURS:
            return True
        members = [p for p in self.wanted.places if p.aws_region in table.replicas]
        strangers = (Standing.FOREIGN, Standing.ELSEWHERE)
        return not any(self.at(member).away or self.at(member).standing(owner) in strangers for member in members)

    def begin(self) -> Plan:
        """Nothing is ours yet: make the table in the first region, or say what stands in the way."""
        wanted, first = self.wanted, self.wanted.places[0]
        there = [place for place in wanted.places if self.at(place).there]
        for place in there:
            self._refuse(place)
        elsewhere = [p for p in there if self.at(p).standing(wanted.owner) is Standing.ELSEWHERE]
        if elsewhere:
            return self._elsewhere(elsewhere[0])
        self._away()
        if there or self.at(first).away:
            again_s = AWAY_S if self.at(first).away else None
            return Plan((), (self._worst(),), again_s, withheld=self.withheld(None))
        tags = dict(wanted.tags) | wanted.owner.tags({first.aws_region})
        action = CreateTable(wanted.table, first.aws_region, tags, wanted.protection, first.kms_key)
        text = f"Table {wanted.table} is being made in {first.aws_region}."
        condition = Condition(ConditionType.STATE_READY, False, Reason.CREATING, text)
        return Plan((action,), (condition,), SOON_S, withheld=self.withheld(None))

    def _elsewhere(self, place: Place) -> Plan:
        """Another cluster's operator keeps it: observe."""
        table = self.at(place)
        statuses = {place.aws_region: table.status} | dict(table.replicas)
        missing = [p.aws_region for p in self.wanted.places if statuses.get(p.aws_region) != ACTIVE]
        text = refusal(f"Table {self.wanted.table}", Standing.ELSEWHERE, table.tags) + "."
        if missing:
            text += f" It does not serve in {listed(missing)} yet."
        condition = Condition(ConditionType.STATE_READY, not missing, Reason.MANAGED_ELSEWHERE, text)
        return Plan((), (condition,), MOVING_S if missing else None, withheld=self.withheld(place))

    def _refuse(self, place: Place) -> None:
        table = self.at(place)
        standing = table.standing(self.wanted.owner)
        what = f"Table {self.wanted.table} in {place.aws_region}"
        if not self._takeable(table):
            reason = Reason.ADOPTION_REFUSED if standing is Standing.NOBODYS else Reason.FOREIGN_OBJECT
            self.problems.append((reason, refusal(what, standing, table.tags)))
        elif table.unlike:
            text = f"{what} is not one of ours, and cannot become one: {'; '.join(table.unlike)}; choose another name"
            self.problems.append((Reason.ADOPTION_REFUSED, text))

    def _away(self) -> None:
        for place in self.wanted.places:
            table = self.at(place)
            if table.away:
                reason = Reason.ACCESS_DENIED if table.denied else Reason.UNREACHABLE
                self.problems.append((reason, f"{place.region}: {table.away}"))

    # --------------------------------------------------------------------------------------------------------- members

    def members(self, home: Place) -> None:
        """Find what is wrong with the places, beside what can be done about it."""
        self._away()
        for place in self.wanted.places:
            table = self.at(place)
            if place != home and table.there and place.aws_region not in self.at(home).replicas:
                what = (
                    f"A table {self.wanted.table} in {place.aws_region} is not a replica of that in {home.aws_region}"
                )
                self.problems.append((Reason.FOREIGN_OBJECT, f"{what}: remove it, or choose another name"))
            status = self.status(place, home)
            if status and status not in MOVING | {ACTIVE, CREATION_FAILED}:
                self.problems.append((Reason.DEGRADED, f"{place.region}: AWS says {status}"))
        if self.wanted.strong != self.at(home).strong and self.at(home).replicas:
            text = "a table's consistency cannot change once it has replicas: make a new resource with another table"
            self._cannot(text)
        elif self.wanted.strong and not self.at(home).strong and not self.at(home).empty:
            text = "a table must be empty to become strong: make a new resource with another table"
            self._cannot(text)
        self._keys(home)

    def _cannot(self, text: str) -> None:
        self.stuck = True
        self.problems.append((Reason.IMMUTABLE_SETTING, text))

    def _keys(self, home: Place) -> None:
        """AWS takes a replica's key at its creation only; a table without replicas gets another one from us."""
        wrong = [place for place in self.wanted.places if self.other_key(place)] if self.at(home).replicas else []
        if not wrong:
            return
        have = "; ".join(f"{place.region} has {self.at(place).kms_key or 'a key of AWS'}" for place in wrong)
        what = f"Table {self.wanted.table} is encrypted with other keys than declared ({have})"
        text = f"{what}, and AWS changes no replica's key: "
        if self.wanted.strong:
            text += "declare these, or make a new resource with another table"
        else:
            text += (
                f"declare these, or leave one region in spec.regions, name the others in the annotation {REMOVE_REGION}, "
                "and put them back once the table is ready with its new key"
            )
        self.problems.append((Reason.IMMUTABLE_SETTING, text))

    def other_key(self, place: Place) -> bool:
        """Whether the table there has another key than is declared. None declared leaves what is there; a table tells the
        ARN of its key and never an alias."""
        table = self.at(place)
        known = table.status == ACTIVE and place.kms_key and ":alias/" not in place.kms_key
        return bool(known) and table.kms_key != place.kms_key

    def mine(self, place: Place, home: Place) -> bool:
        """Whether settings can be made there now."""
        table = self.at(place)
        member = place == home or place.aws_region in self.at(home).replicas
        return table.status == ACTIVE and member and (place == home or self._member_takeable(table))

    def _member_takeable(self, table: Seen) -> bool:
        # A replica of our table that carries no tags yet is one that we have just made, or that came with it.
        return table.standing(self.wanted.owner) is Standing.NOBODYS or self._takeable(table)

    # --------------------------------------------------------------------------------------------------------- actions

    def made(self, home: Place) -> set[str]:
        """Where the table is or will be of our making. It is written down before a replica is made."""
        known = {region for place in self.wanted.places for region in made_in(self.at(place).tags)}
        return known | {place.aws_region for place in self.missing(home)}

    def missing(self, home: Place) -> list[Place]:
        """Places without a replica, where one can be made."""
        members = self.at(home).replicas
        return [
            place
            for place in self.wanted.places
            if place != home
            and not self.at(place).there
            and not self.at(place).away
            and members.get(place.aws_region, CREATION_FAILED) == CREATION_FAILED
        ]

    def settings(self, place: Place, home: Place) -> list[TableAction]:
        wanted, table, where = self.wanted, self.at(place), (self.wanted.table, place.aws_region)
        actions: list[TableAction] = []
        tags = missing_tags(dict(wanted.tags) | wanted.owner.tags(self.made(home)), table.tags)
        if tags:
            actions.append(TagTable(*where, table.arn, tags))
        if table.recovery != wanted.recovery:
            actions.append(SetRecovery(*where, wanted.recovery))
        if place == home and not (table.expires or table.strong or wanted.strong):
            actions.append(SetExpiry(*where))
        if table.protection != wanted.protection:
            actions.append(SetProtection(*where, wanted.protection))
        return actions

    def operation(self, home: Place) -> TableAction | None:
        """The one operation on replicas that may be asked for now."""
        wanted, table = self.wanted, self.at(home)
        statuses = {table.status, *table.replicas.values()}
        if table.status != ACTIVE or statuses & MOVING or self.stuck:
            return None
        where = (wanted.table, home.aws_region)
        if not table.replicas and self.other_key(home):
            return SetKey(*where, home.kms_key)
        for place in (*wanted.places, *wanted.leaving):
            if table.replicas.get(place.aws_region) == CREATION_FAILED:
                return DeleteReplica(*where, place.aws_region, "its creation failed")
        missing = tuple(self.missing(home))
        if wanted.strong:
            # All of them at once: with one away it is too early, and a strong table never lacks one.
            ready = len(missing) == len(wanted.places) - 1 and not table.strong
            return MakeStrong(*where, missing, wanted.witness) if ready else None
        if missing:
            return CreateReplica(*where, missing[0].aws_region, missing[0].kms_key)
        return self._departure(home)

    def _departure(self, home: Place) -> TableAction | None:
        for place in self.wanted.leaving:
            if place.aws_region not in self.at(home).replicas or self.at(place).away:
                continue
            if self.at(place).protection:
                return SetProtection(self.wanted.table, place.aws_region, False)
            return DeleteReplica(self.wanted.table, home.aws_region, place.aws_region, "the region leaves")
        return None

    # ---------------------------------------------------------------------------------------------------------- report

    def withheld(self, home: Place | None) -> frozenset[str]:
        """Where sidecars must not write: to somebody else's table, and to one that is to become strong, which must be
        empty for that."""
        if self.wanted.strong and not (home and self.at(home).strong):
            return frozenset(place.region for place in self.wanted.places)
        members = {home.aws_region, *self.at(home).replicas} if home else set()
        return frozenset(
            place.region
            for place in self.wanted.places
            if self.at(place).there and place.aws_region not in members and self._is_a_strangers(self.at(place))
        )

    def _is_a_strangers(self, table: Seen) -> bool:
        return bool(table.unlike) or table.standing(self.wanted.owner) in (Standing.FOREIGN, Standing.NOBODYS)

    def patience(self, home: Place) -> float | None:
        table = self.at(home)
        if {table.status, *table.replicas.values()} & MOVING:
            return MOVING_S
        leaving = any(place.aws_region in table.replicas for place in self.wanted.leaving)
        return AWAY_S if self.problems or leaving else None

    def notes(self, home: Place) -> dict[str, str]:
        return {
            place.region: f"table {(self.status(place, home) or 'missing').lower()}"
            + (", unreachable" if self.at(place).away else "")
            for place in self.wanted.places
        }

    def condition(self, ready: bool, home: Place) -> Condition:
        if self.problems:
            return self._worst()
        if ready:
            return Condition(ConditionType.STATE_READY, True, Reason.READY)
        waiting = {p.aws_region: self.status(p, home) or "missing" for p in self.wanted.places}
        text = ", ".join(f"{region} {status}" for region, status in sorted(waiting.items()) if status != ACTIVE)
        message = f"Table {self.wanted.table}: {text or 'settings are being made'}."
        return Condition(ConditionType.STATE_READY, False, Reason.CREATING, message)

    def _worst(self) -> Condition:
        text = ". ".join(text for _, text in self.problems) + "."
        return Condition(ConditionType.STATE_READY, False, self.problems[0][0], text)
