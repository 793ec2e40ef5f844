"""DynamoDB's tables and global tables (2019.11.21): what AWS accepts and refuses, with states that take their time."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.aws.wire import Call, Refused, Reply, dynamodb_reply

SETS = (
    {"us-east-1", "us-east-2", "us-west-2"},
    {"eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1"},
    {"ap-northeast-1", "ap-northeast-2", "ap-northeast-3"},
)
"""Regions among which strong tables may be made."""

Send = Callable[[Call], Awaitable[Reply]]


@dataclass(slots=True)
class Replica:
    """A table in one region, member of a group or alone."""

    region: str
    ready_at: float
    kms: str = ""
    forced: str = ""
    """A status that a test has set."""
    deleting_until: float = 0.0
    source_of_replica_at: float = -1e9

    def status(self, now: float) -> str:
        if self.forced:
            return self.forced
        if self.deleting_until:
            return "DELETING"
        return "CREATING" if now < self.ready_at else "ACTIVE"


@dataclass(slots=True)
class Group:
    """One table name with all its replicas; a table that is not global is a group of one."""

    name: str
    keys: tuple[str, ...]
    replicas: dict[str, Replica] = field(default_factory=dict)
    strong: bool = False
    witness: str = ""
    anchor: str = ""
    """Where a strong table's items are kept."""
    busy_until: float = 0.0

    def items_in(self, region: str) -> str:
        return self.anchor if self.strong else region


class Tables:
    """The front's knowledge of tables. ``creating_s`` is how long a table or replica takes to become ACTIVE, and
    ``source_hold_s`` how long the source of a new replica cannot be deleted (AWS: a day)."""

    def __init__(
        self, regions: tuple[str, ...], send: Send, copy: Callable[[Group, str, str], Awaitable[None]]
    ) -> None:
        self.creating_s = 0.0
        self.source_hold_s = 0.0
        self.fail_next: set[tuple[str, str]] = set()
        """(table, region) of replicas whose creation will fail."""
        self._regions = regions
        self._send = send
        self._copy = copy
        self._groups: dict[tuple[str, str], Group] = {}

    def group(self, region: str, table: str) -> Group | None:
        """By name or ARN."""
        return self._groups.get((region, table.rpartition("/")[2]))

    def clear(self) -> None:
        self._groups.clear()
        self.fail_next.clear()
        self.creating_s = self.source_hold_s = 0.0

    def force(self, table: str, region: str, status: str) -> None:
        """Give a replica a status, such as REGION_DISABLED; empty for its own."""
        group = self._groups[region, table]
        group.replicas[region].forced = status

    async def handle(self, call: Call) -> Reply | None:
        """The answer to a call about a table; None for one that is passed on as it is."""
        self._sweep()
        doing = getattr(self, f"_{call.operation}", None)
        return await doing(call, call.json()) if doing else None

    # -------------------------------------------------------------------------------------------------------- tables

    async def _CreateTable(self, call: Call, body: dict[str, Any]) -> Reply:
        reply = await self._send(call)
        if reply.status == 200:
            keys = tuple(key["AttributeName"] for key in body["KeySchema"])
            kms = body.get("SSESpecification", {}).get("KMSMasterKeyId", "")
            group = Group(body["TableName"], keys, anchor=call.region)
            group.replicas[call.region] = Replica(call.region, time.monotonic() + self.creating_s, kms)
            self._groups[call.region, group.name] = group
            description = self._described(group, call.region, reply.json()["TableDescription"])
            return dynamodb_reply({"TableDescription": description})
        return reply

    async def _DescribeTable(self, call: Call, body: dict[str, Any]) -> Reply:
        reply = await self._send(call)
        group = self.group(call.region, body.get("TableName", ""))
        if reply.status != 200 or group is None:
            return reply
        description = reply.json()["Table"]
        if group.strong and call.region != group.anchor:
            items = await self._send(call.to(group.anchor))
            description["ItemCount"] = items.json()["Table"]["ItemCount"]
        return dynamodb_reply({"Table": self._described(group, call.region, description)})

    async def _DeleteTable(self, call: Call, body: dict[str, Any]) -> Reply:
        group = self.group(call.region, body.get("TableName", ""))
        if group is not None:
            self._must_be_active(group, call.region)
            self._must_not_be_held(group, call.region)
            if len(group.replicas) > 1:
                raise _invalid("This table is a global table's replica: delete its replicas first")
        reply = await self._send(call)
        if reply.status == 200 and group is not None:
            del self._groups[call.region, group.name]
        return reply

    async def _UpdateTable(self, call: Call, body: dict[str, Any]) -> Reply:
        group = self.group(call.region, body.get("TableName", ""))
        if group is None:
            return await self._send(call)
        self._must_be_active(group, call.region)
        if not body.keys() & {"ReplicaUpdates", "GlobalTableWitnessUpdates", "MultiRegionConsistency"}:
            key = body.get("SSESpecification", {}).get("KMSMasterKeyId", "")
            if key and len(group.replicas) > 1:
                raise _invalid("Customer managed keys of replicas cannot be updated through SSESpecification")
            reply = await self._send(call)
            if reply.status != 200:
                return reply
            if "SSESpecification" in body:
                group.replicas[call.region].kms, group.busy_until = key, time.monotonic() + self.creating_s
            description = self._described(group, call.region, reply.json()["TableDescription"])
            return dynamodb_reply({"TableDescription": description})
        await self._replicas(call, group, body)
        return dynamodb_reply({"TableDescription": {"TableName": group.name, "TableStatus": "UPDATING"}})

    # ------------------------------------------------------------------------------------------------------ replicas

    async def _replicas(self, call: Call, group: Group, body: dict[str, Any]) -> None:
        allowed = {"TableName", "ReplicaUpdates", "GlobalTableWitnessUpdates", "MultiRegionConsistency"}
        if more := sorted(body.keys() - allowed):
            raise _invalid(f"Replica updates cannot be combined with other updates: {', '.join(more)}")
        now = time.monotonic()
        updates = [(kind, each[kind]) for each in body.get("ReplicaUpdates", ()) for kind in each]
        deleted = {update["RegionName"] for kind, update in updates if kind == "Delete"}
        others = [replica for region, replica in group.replicas.items() if region not in deleted]
        if any(replica.status(now) in ("CREATING", "DELETING", "UPDATING") for replica in group.replicas.values()):
            raise Refused("ResourceInUseException", f"A replica of {group.name} is being created, updated or deleted")
        if any(replica.status(now) != "ACTIVE" for replica in others) and not deleted:
            raise _invalid(f"All replicas of {group.name} must be ACTIVE")
        strong = body.get("MultiRegionConsistency") == "STRONG"
        witnesses = [each[kind] | {"kind": kind} for each in body.get("GlobalTableWitnessUpdates", ()) for kind in each]
        if strong or group.strong:
            await self._strong(call, group, updates, witnesses, strong=strong)
            return
        if witnesses:
            raise _invalid("Witnesses belong to tables of MultiRegionConsistency STRONG")
        if len(updates) != 1:
            raise _invalid("Only one replica can be created, updated or deleted in one UpdateTable operation")
        ((kind, update),) = updates
        match kind:
            case "Create":
                await self._create(call, group, update)
            case "Delete":
                await self._delete(call, group, update["RegionName"])
            case "Update":
                if update["RegionName"] not in group.replicas:
                    raise Refused("ReplicaNotFoundException", f"{group.name} has no replica in {update['RegionName']}")
                if "KMSMasterKeyId" in update:
                    raise _invalid("KMSMasterKeyId of a replica cannot be changed: make the replica anew")
            case _:
                raise _invalid(f"{kind} is not for tables of one account")

    async def _create(self, call: Call, group: Group, update: dict[str, Any]) -> None:
        region = update["RegionName"]
        if region not in self._regions:
            raise _invalid(f"Region {region} is unknown, disabled, or not played by this stand-in")
        if region in group.replicas:
            raise _invalid(f"Table {group.name} has a replica in {region} already")
        if (region, group.name) in self._groups:
            raise _invalid(f"A table {group.name} exists in {region} already")
        source = group.replicas[call.region]
        if bool(source.kms) != bool(update.get("KMSMasterKeyId")):
            raise _invalid(
                "All replicas must use the same type of encryption key: name a KMSMasterKeyId for each or none"
            )
        described = (await self._send(call.to(call.region, operation="DescribeTable"))).json()["Table"]
        stream = described.get("StreamSpecification", {})
        if stream.get("StreamViewType") != "NEW_AND_OLD_IMAGES":
            raise _invalid("Table needs a stream with NEW_AND_OLD_IMAGES to be replicated")
        failing = (group.name, region) in self.fail_next
        self.fail_next.discard((group.name, region))
        now = time.monotonic()
        if not failing:
            await self._make_table(call, group, region, described, update.get("KMSMasterKeyId", ""))
        replica = Replica(region, now + self.creating_s, update.get("KMSMasterKeyId", ""))
        replica.forced = "CREATION_FAILED" if failing else ""
        group.replicas[region] = replica
        group.busy_until = now + self.creating_s
        source.source_of_replica_at = now
        if not failing:
            self._groups[region, group.name] = group
            await self._copy(group, call.region, region)

    async def _make_table(self, call: Call, group: Group, region: str, described: dict[str, Any], kms: str) -> None:
        definition: dict[str, Any] = {
            "TableName": group.name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": described["AttributeDefinitions"],
            "KeySchema": described["KeySchema"],
            "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        }
        indexes = [
            {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
            for index in described.get("GlobalSecondaryIndexes", ())
        ]
        definition |= {"GlobalSecondaryIndexes": indexes} if indexes else {}
        definition |= {"SSESpecification": {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": kms}} if kms else {}
        made = await self._send(call.to(region, json.dumps(definition).encode(), "CreateTable"))
        if made.status != 200:
            raise _invalid(f"the replica cannot be made: {made.body.decode()}")
        told = await self._send(call.to(call.region, operation="DescribeTimeToLive"))
        attribute = told.json()["TimeToLiveDescription"].get("AttributeName")
        if attribute and not group.strong:
            wanted = {"TableName": group.name, "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": True}}
            await self._send(call.to(region, json.dumps(wanted).encode(), "UpdateTimeToLive"))

    async def _delete(self, call: Call, group: Group, region: str) -> None:
        if region not in group.replicas:
            raise Refused("ReplicaNotFoundException", f"{group.name} has no replica in {region}")
        if region == call.region:
            raise _invalid("A replica is deleted by a call to another Region of its table")
        replica = group.replicas[region]
        if replica.forced == "CREATION_FAILED":
            del group.replicas[region]
            return
        self._must_not_be_held(group, region)
        there = await self._send(call.to(region, operation="DescribeTable"))
        if there.json()["Table"].get("DeletionProtectionEnabled"):
            raise _invalid(f"Replica in {region} cannot be deleted: its deletion protection is enabled")
        gone = await self._send(call.to(region, b'{"TableName": "%s"}' % group.name.encode(), "DeleteTable"))
        if gone.status != 200:
            raise _invalid(gone.body.decode())
        del self._groups[region, group.name]
        replica.deleting_until = time.monotonic() + self.creating_s

    async def _strong(
        self,
        call: Call,
        group: Group,
        updates: list[tuple[str, dict[str, Any]]],
        witnesses: list[dict[str, Any]],
        *,
        strong: bool,
    ) -> None:
        kinds = {kind for kind, _ in updates} | {each["kind"] for each in witnesses}
        if group.strong:
            named = {update["RegionName"] for _, update in updates} | {each["RegionName"] for each in witnesses}
            rest = set(group.replicas) - {call.region} | ({group.witness} if group.witness else set())
            if kinds != {"Delete"} or named != rest:
                raise _invalid("A strong table's replicas can only be deleted all but one, in one operation")
            for region in set(group.replicas) - {call.region}:
                await self._delete(call, group, region)
            group.witness, group.strong = "", False
            return
        if kinds != {"Create"} or len(group.replicas) != 1:
            raise _invalid("MultiRegionConsistency STRONG is for a table that has no replica yet, with Create alone")
        members = {call.region} | {update["RegionName"] for _, update in updates}
        members |= {each["RegionName"] for each in witnesses}
        if len(members) != 3 or len(witnesses) > 1 or len(updates) + len(witnesses) != 2:
            raise _invalid("A strong table has three replicas, or two and a witness, in three Regions")
        if not any(members <= group_of for group_of in SETS):
            raise _invalid("The Regions of a strong table must be of one Region set")
        counted = await self._send(
            call.to(call.region, b'{"TableName": "%s", "Limit": 1}' % group.name.encode(), "Scan")
        )
        if counted.json().get("Items"):
            raise _invalid("A table must be empty to become strong")
        ttl = await self._send(call.to(call.region, operation="DescribeTimeToLive"))
        if ttl.json()["TimeToLiveDescription"]["TimeToLiveStatus"] != "DISABLED":
            raise _invalid("A strong table has no time to live")
        group.strong = True
        try:
            for _, update in updates:
                await self._create(call, group, update)
        except Refused:
            group.strong = False
            raise
        group.witness = witnesses[0]["RegionName"] if witnesses else ""

    # ------------------------------------------------------------------------------------------------------ settings

    async def _UpdateTimeToLive(self, call: Call, body: dict[str, Any]) -> Reply:
        group = self.group(call.region, body.get("TableName", ""))
        if group is None:
            return await self._send(call)
        self._must_be_active(group, call.region)
        if group.strong:
            raise _invalid("Time to live is not supported for tables of MultiRegionConsistency STRONG")
        told = await self._send(call.to(call.region, operation="DescribeTimeToLive"))
        enabled = told.json()["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"
        if enabled == body["TimeToLiveSpecification"]["Enabled"]:
            raise _invalid(f"TimeToLive is already {'enabled' if enabled else 'disabled'}")
        reply = await self._send(call)
        for region in set(group.replicas) - {call.region}:  # it is one setting for all replicas
            await self._send(call.to(region))
        return reply

    async def _UpdateContinuousBackups(self, call: Call, body: dict[str, Any]) -> Reply:
        group = self.group(call.region, body.get("TableName", ""))
        if group is not None and group.replicas[call.region].status(time.monotonic()) != "ACTIVE":
            raise Refused("ContinuousBackupsUnavailableException", "Backups are being enabled for the table: try later")
        return await self._send(call)

    async def _TagResource(self, call: Call, body: dict[str, Any]) -> Reply:
        group = self.group(call.region, body.get("ResourceArn", ""))
        if group is not None:
            self._must_be_active(group, call.region)
        return await self._send(call)

    # ------------------------------------------------------------------------------------------------------- helpers

    def _described(self, group: Group, region: str, description: dict[str, Any]) -> dict[str, Any]:
        now = time.monotonic()
        status = group.replicas[region].status(now)
        if status == "ACTIVE" and now < group.busy_until:
            status = "UPDATING"
        described = description | {"TableStatus": status}
        described.pop("Replicas", None)
        described.pop("GlobalTableVersion", None)
        if len(group.replicas) > 1:
            described["GlobalTableVersion"] = "2019.11.21"
            described["MultiRegionConsistency"] = "STRONG" if group.strong else "EVENTUAL"
            described["Replicas"] = [
                {"RegionName": name, "ReplicaStatus": replica.status(now)}
                | ({"KMSMasterKeyId": replica.kms} if replica.kms else {})
                for name, replica in group.replicas.items()
                if name != region
            ]
        if group.witness:
            described["GlobalTableWitnesses"] = [{"RegionName": group.witness, "WitnessStatus": "ACTIVE"}]
        return described

    def _must_be_active(self, group: Group, region: str) -> None:
        now = time.monotonic()
        status = group.replicas[region].status(now)
        if status != "ACTIVE" or now < group.busy_until:
            raise Refused("ResourceInUseException", f"Table {group.name} is not ACTIVE in {region}")

    def _must_not_be_held(self, group: Group, region: str) -> None:
        if time.monotonic() - group.replicas[region].source_of_replica_at < self.source_hold_s:
            raise _invalid("A table cannot be deleted for 24 hours after a replica was made from it")

    def _sweep(self) -> None:
        now = time.monotonic()
        for group in {id(group): group for group in self._groups.values()}.values():
            for region, replica in tuple(group.replicas.items()):
                if replica.deleting_until and now >= replica.deleting_until:
                    del group.replicas[region]


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", f"One or more parameter values were invalid: {message}")
