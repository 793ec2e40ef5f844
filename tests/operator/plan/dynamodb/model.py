"""Tables as AWS keeps them, as values: what a plan's actions do, and which of them AWS would refuse."""

from dataclasses import dataclass, field, replace

from agentmemory_operator.plan.dynamodb import values as v
from agentmemory_operator.plan.dynamodb.values import Place, Seen, TableAction, Wanted

REGIONS = ("us-east-1", "us-east-2", "us-west-2")


@dataclass
class Model:
    """``tables`` by region; ``groups`` are sets of regions whose tables are replicas of one another."""

    tables: dict[str, Seen] = field(default_factory=dict)
    groups: list[set[str]] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    """Where a replica's creation has failed: known to the others, with no table."""
    strong: bool = False
    witness: str = ""
    touched: set[str] = field(default_factory=set)
    """Regions whose table some action has changed."""

    def seen(self, wanted: Wanted) -> dict[str, Seen]:
        return {place.aws_region: self._seen(place) for place in (*wanted.places, *wanted.leaving)}

    def _seen(self, place: Place) -> Seen:
        if place.aws_region in self.away:
            return Seen(away="no answer")
        table = self.tables.get(place.aws_region)
        if table is None:
            return Seen()
        group = self.group(place.aws_region)
        others = {region: self.tables[region].status for region in group if region != place.aws_region}
        others |= dict.fromkeys(self.failed if len(group) else (), v.CREATION_FAILED)
        return replace(table, replicas=others, strong=self.strong and len(group) > 1, witness=self.witness)

    def group(self, region: str) -> set[str]:
        return next((group for group in self.groups if region in group), {region})

    def act(self, action: TableAction) -> None:
        region = action.region
        assert region not in self.away, "the region is away"
        self.touched.add(region)
        if isinstance(action, v.CreateTable):
            assert region not in self.tables
            self.tables[region] = _new(action.tags, action.protection)
            return
        table = self.tables[region]
        assert table.status == v.ACTIVE
        match action:
            case v.TagTable():
                self.tables[region] = replace(table, tags={**table.tags, **action.tags})
            case v.UntagTable():
                left = {key: value for key, value in table.tags.items() if key not in action.names}
                self.tables[region] = replace(table, tags=left)
            case v.SetRecovery():
                self.tables[region] = replace(table, recovery=action.enabled)
            case v.SetProtection():
                self.tables[region] = replace(table, protection=action.enabled)
            case v.SetExpiry():
                assert not self.strong
                for member in self.group(region):
                    self.tables[member] = replace(self.tables[member], expires=True)
            case v.SetKey():
                assert self.group(region) == {region}
                self.tables[region] = replace(table, kms_key=action.kms_key)
            case v.CreateReplica():
                assert action.target not in self.tables, "a table of that name is there"
                assert action.target not in self.failed, "a replica whose creation failed stands in the way"
                self.tables[action.target] = replace(_new({}, False), expires=table.expires)
                self._join(region, action.target)
                self.touched.add(action.target)
            case v.DeleteReplica():
                self._delete(region, action.target)
            case v.MakeStrong():
                assert len(self.group(region)) == 1
                assert len(action.targets) + bool(action.witness) == 2
                assert table.empty
                assert not table.expires
                for place in action.targets:
                    assert place.aws_region not in self.tables
                    self.tables[place.aws_region] = _new({}, False)
                    self._join(region, place.aws_region)
                self.strong, self.witness = True, action.witness
            case v.DissolveStrong():
                assert set(action.targets) == self.group(region) - {region}
                for target in action.targets:
                    self._delete(region, target)
                self.strong, self.witness = False, ""
            case v.DeleteTable():
                assert self.group(region) == {region}
                assert not table.protection
                del self.tables[region]
            case _:
                raise AssertionError(f"unknown: {action}")

    def _join(self, one: str, other: str) -> None:
        group = self.group(one)
        if group not in self.groups:
            self.groups.append(group)
        group.add(other)

    def _delete(self, region: str, target: str) -> None:
        if target in self.failed:
            self.failed.discard(target)
            return
        assert target in self.group(region)
        assert target != region
        assert not self.tables[target].protection, "its deletion protection is on"
        self.touched.add(target)
        self.group(region).discard(target)
        del self.tables[target]


def _new(tags: object, protection: bool) -> Seen:
    assert isinstance(tags, dict)
    return Seen(status=v.ACTIVE, arn="arn", tags=dict(tags), protection=protection)
