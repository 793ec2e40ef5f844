"""What plans about a table are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentmemory_operator.plan.aws import Owner, Standing
from agentmemory_operator.plan.values import Action

ACTIVE = "ACTIVE"
UPDATING = "UPDATING"
CREATION_FAILED = "CREATION_FAILED"
MOVING = frozenset({"CREATING", UPDATING, "DELETING", "ARCHIVING"})
"""States that pass by themselves. While one is so, AWS takes no other operation on the table."""


@dataclass(frozen=True, slots=True)
class Place:
    """One region of the resource, and what AWS calls it."""

    region: str
    aws_region: str
    kms_key: str = ""
    """The ARN of the customer's key there; empty for AWS's own."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the resource declares."""

    table: str
    places: tuple[Place, ...]
    """In the resource's order, each AWS region once. The table is made in the first."""
    owner: Owner
    leaving: tuple[Place, ...] = ()
    """Places that the resource no longer has and that its annotation names."""
    strong: bool = False
    witness: str = ""
    recovery: bool = True
    protection: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """The table in one AWS region."""

    away: str = ""
    """Why it could not be looked at; empty if it could. Then nothing else is known."""
    denied: bool = False
    """Whether that was for want of rights."""
    status: str = ""
    """AWS's word; empty where there is no table."""
    arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    protection: bool = False
    recovery: bool = False
    expires: bool = False
    """Whether items expire by our attribute."""
    empty: bool = True
    """Looked at only where a table is to become strong."""
    kms_key: str = ""
    """The ARN of the customer's key; empty for a key of AWS's own."""
    unlike: tuple[str, ...] = ()
    """In what it is not our table: keys, index, stream."""
    replicas: Mapping[str, str] = field(default_factory=dict)
    """The status of each other replica, by AWS region."""
    strong: bool = False
    witness: str = ""

    @property
    def there(self) -> bool:
        return bool(self.status)

    def standing(self, owner: Owner) -> Standing:
        return owner.standing(self.tags)


@dataclass(frozen=True, slots=True)
class TableAction(Action):
    """Something done to the table in one AWS region."""

    table: str
    region: str

    @property
    def what(self) -> str:
        return f"table {self.table} in {self.region}"


@dataclass(frozen=True, slots=True)
class CreateTable(TableAction):
    tags: Mapping[str, str]
    protection: bool
    kms_key: str = ""

    def describe(self) -> str:
        return f"create {self.what}"


@dataclass(frozen=True, slots=True)
class TagTable(TableAction):
    arn: str
    tags: Mapping[str, str]

    def describe(self) -> str:
        return f"tag {self.what}: {', '.join(sorted(self.tags))}"


@dataclass(frozen=True, slots=True)
class UntagTable(TableAction):
    arn: str
    names: tuple[str, ...]

    def describe(self) -> str:
        return f"give up {self.what}"


@dataclass(frozen=True, slots=True)
class SetRecovery(TableAction):
    enabled: bool

    def describe(self) -> str:
        return f"turn point-in-time recovery of {self.what} {'on' if self.enabled else 'off'}"


@dataclass(frozen=True, slots=True)
class SetExpiry(TableAction):
    def describe(self) -> str:
        return f"let items of {self.what} expire"


@dataclass(frozen=True, slots=True)
class SetProtection(TableAction):
    enabled: bool

    def describe(self) -> str:
        return f"turn deletion protection of {self.what} {'on' if self.enabled else 'off'}"


@dataclass(frozen=True, slots=True)
class SetKey(TableAction):
    """For a table without replicas: AWS changes no key of a replica so."""

    kms_key: str

    def describe(self) -> str:
        return f"encrypt {self.what} with {self.kms_key}"


@dataclass(frozen=True, slots=True)
class CreateReplica(TableAction):
    """Asked of the table in ``region``."""

    target: str
    kms_key: str = ""

    def describe(self) -> str:
        return f"create a replica of {self.what} in {self.target}"


@dataclass(frozen=True, slots=True)
class DeleteReplica(TableAction):
    """Asked of the table in ``region``."""

    target: str
    why: str

    def describe(self) -> str:
        return f"delete the replica in {self.target} of {self.what} ({self.why})"


@dataclass(frozen=True, slots=True)
class MakeStrong(TableAction):
    """All replicas, and a witness, in one operation: AWS makes strong tables in no other way."""

    targets: tuple[Place, ...]
    witness: str = ""

    def describe(self) -> str:
        names = [place.aws_region for place in self.targets] + ([f"witness {self.witness}"] if self.witness else [])
        return f"make {self.what} strong with {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class DissolveStrong(TableAction):
    targets: tuple[str, ...]
    witness: str = ""

    def describe(self) -> str:
        return f"delete the replicas in {', '.join(self.targets)} of {self.what}"


@dataclass(frozen=True, slots=True)
class DeleteTable(TableAction):
    def describe(self) -> str:
        return f"delete {self.what}"
