"""S3's buckets: global names, each in one region, with replication between them."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from multidict import CIMultiDict

from tests.aws.links import Links
from tests.aws.tables import Send
from tests.aws.wire import ACCOUNT, Call, Refused, Reply, s3_reply

_NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_CARRIED = re.compile(
    r"^(content-type|content-encoding|cache-control|x-amz-meta-.*|x-amz-object-lock-.*|x-amz-tagging)$", re.I
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One replication rule, as far as it decides what is copied."""

    prefix: str
    bucket: str
    markers: bool


@dataclass(slots=True)
class Bucket:
    name: str
    region: str
    account: str = ACCOUNT
    replication: bytes = b""
    rules: tuple[Rule, ...] = ()
    copies: dict[tuple[str, str], str] = field(default_factory=dict)
    """Replication status by key and version."""


class Buckets:
    """The front's knowledge of buckets."""

    def __init__(self, send: Send, links: Links) -> None:
        self._send = send
        self._links = links
        self._buckets: dict[str, Bucket] = {}

    def clear(self) -> None:
        self._buckets.clear()

    def foreign(self, name: str, region: str, account: str = "999999999999") -> None:
        """A bucket of that name that somebody else has."""
        self._buckets[name] = Bucket(name, region, account)

    async def handle(self, call: Call) -> Reply | None:
        """The answer to an S3 call; None for one that names no bucket."""
        path, _, text = call.path.partition("?")
        name, _, key = unquote(path).lstrip("/").partition("/")
        if not name:
            return None
        query = dict(parse_qsl(text, keep_blank_values=True))
        bucket = self._buckets.get(name)
        if bucket is None:
            return await self._without(call, name, key, query)
        self._check(call, bucket, key, query)
        if not key:
            return await self._bucket(call, bucket, query)
        return await self._object(call, bucket, key, query)

    async def _without(self, call: Call, name: str, key: str, query: dict[str, str]) -> Reply:
        reply = await self._send(call)
        if call.method == "PUT" and not key and not query and reply.status == 200:
            self._buckets[name] = Bucket(name, call.region)
        return reply

    def _check(self, call: Call, bucket: Bucket, key: str, query: dict[str, str]) -> None:
        creating = call.method == "PUT" and not key and not query
        if bucket.account != ACCOUNT:
            if creating:
                raise Refused("BucketAlreadyExists", "The requested bucket name is not available.", 409)
            raise Refused("AccessDenied", "Access Denied", 403)
        if creating:
            raise Refused("BucketAlreadyOwnedByYou", "Your previous request to create the bucket succeeded.", 409)
        owner = call.headers.get("x-amz-expected-bucket-owner")
        if owner is not None and owner != ACCOUNT:
            raise Refused("AccessDenied", "Access Denied", 403)
        if bucket.region != call.region:
            message = "The bucket must be addressed using the endpoint of its Region."
            raise Refused("PermanentRedirect", message, 301, x_amz_bucket_region=bucket.region)

    # -------------------------------------------------------------------------------------------------------- bucket

    async def _bucket(self, call: Call, bucket: Bucket, query: dict[str, str]) -> Reply:
        if "replication" in query:
            return await self._replication(call, bucket)
        suspending = call.method == "PUT" and "versioning" in query and b"Suspended" in call.body
        if suspending and (bucket.rules or await self._locked(call, bucket)):
            raise Refused("InvalidBucketState", "Versioning cannot be suspended on this bucket", 409)
        if call.method == "PUT" and "object-lock" in query and not await self._versioned(call, bucket):
            raise Refused("InvalidBucketState", "Versioning must be 'Enabled' on the bucket", 409)
        if call.method == "PUT" and "acl" in query:
            raise Refused("AccessControlListNotSupported", "The bucket does not allow ACLs", 400)
        reply = await self._send(call)
        if call.method == "DELETE" and not query and reply.status == 204:
            del self._buckets[bucket.name]
        if call.method == "POST" and "delete" in query and reply.status == 200:
            self._markers(call, bucket, reply)
        return reply

    async def _replication(self, call: Call, bucket: Bucket) -> Reply:
        if call.method == "DELETE":
            bucket.replication, bucket.rules = b"", ()
            return s3_reply(204)
        if call.method == "GET":
            if not bucket.replication:
                message = "The replication configuration was not found"
                raise Refused("ReplicationConfigurationNotFoundError", message, 404)
            return s3_reply(200, bucket.replication.decode())
        if not await self._versioned(call, bucket):
            raise _bad("Versioning must be 'Enabled' on the bucket to apply a replication configuration")
        root = ET.fromstring(call.body)
        if not re.fullmatch(r"arn:aws:iam::\d{12}:role/.+", _text(root, "Role")):
            raise _bad("A replication configuration needs a Role")
        rules, priorities = [], set()
        for rule in root.findall(f"{_NS}Rule"):
            rules.append(await self._rule(call, bucket, rule))
            priorities.add(_text(rule, "Priority"))
        if len(priorities) != len(rules):
            raise _bad("Each rule needs a Priority of its own")
        bucket.replication, bucket.rules = call.body, tuple(rules)
        return s3_reply(200)

    async def _rule(self, call: Call, bucket: Bucket, rule: ET.Element) -> Rule:
        if rule.find(f"{_NS}Filter") is None or rule.find(f"{_NS}DeleteMarkerReplication") is None:
            raise _bad("A rule with a Priority needs Filter and DeleteMarkerReplication")
        name = _text(rule, "Destination/Bucket").removeprefix("arn:aws:s3:::")
        target = self._buckets.get(name)
        if target is None or target is bucket:
            raise _bad("Destination bucket must exist.")
        if not await self._versioned(call, target):
            raise _bad("Destination bucket must have versioning enabled.")
        if await self._locked(call, bucket) and not await self._locked(call, target):
            raise _bad("Destination bucket must have Object Lock enabled.")
        kms = _text(rule, "SourceSelectionCriteria/SseKmsEncryptedObjects/Status") == "Enabled"
        if kms != bool(_text(rule, "Destination/EncryptionConfiguration/ReplicaKmsKeyID")):
            raise _bad("SseKmsEncryptedObjects and ReplicaKmsKeyID belong together")
        return Rule(_text(rule, "Filter/Prefix"), name, _text(rule, "DeleteMarkerReplication/Status") == "Enabled")

    async def _versioned(self, call: Call, bucket: Bucket) -> bool:
        reply = await self._ask(call, bucket, "GET", "", "versioning")
        return b"<Status>Enabled</Status>" in reply.body

    async def _locked(self, call: Call, bucket: Bucket) -> bool:
        reply = await self._ask(call, bucket, "GET", "", "object-lock")
        return b"<ObjectLockEnabled>Enabled" in reply.body

    # -------------------------------------------------------------------------------------------------------- object

    async def _object(self, call: Call, bucket: Bucket, key: str, query: dict[str, str]) -> Reply:
        reply = await self._send(call)
        version = reply.headers.get("x-amz-version-id", "")
        if call.method in ("GET", "HEAD") and reply.status == 200:
            if status := bucket.copies.get((key, version)):
                reply.headers["x-amz-replication-status"] = status
            return reply
        put = call.method == "PUT" and not query.keys() & {
            "partNumber",
            "uploadId",
            "retention",
            "legal-hold",
            "tagging",
        }
        if reply.status == 200 and (put or (call.method == "POST" and "uploadId" in query)):
            if not version:  # a completed upload does not say it in every version of the stand-in
                version = (await self._ask(call, bucket, "HEAD", key)).headers.get("x-amz-version-id", "")
            self._copy(call, bucket, key, version)
        if call.method == "DELETE" and "versionId" not in query and reply.status == 204:
            self._mark(call, bucket, key)
        return reply

    def _copy(self, call: Call, bucket: Bucket, key: str, version: str) -> None:
        targets = [target for rule in self._matching(bucket, key) if (target := self._buckets.get(rule.bucket))]
        waiting = {target.name for target in targets}

        def delivery(target: Bucket) -> Any:
            async def deliver() -> None:
                done = await self._deliver(call, bucket, target, key, version)
                waiting.discard(target.name)
                if not done:
                    bucket.copies[key, version] = "FAILED"
                elif not waiting and bucket.copies.get((key, version)) == "PENDING":
                    bucket.copies[key, version] = "COMPLETED"

            return deliver

        for target in targets:
            bucket.copies[key, version] = "PENDING"
            self._links.send(bucket.region, target.region, delivery(target))

    async def _deliver(self, call: Call, source: Bucket, target: Bucket, key: str, version: str) -> bool:
        got = await self._ask(call, source, "GET", key, f"versionId={version}" if version else "")
        if got.status != 200:
            return got.status == 404  # deleted meanwhile: there is nothing to copy
        headers = {name: value for name, value in got.headers.items() if _CARRIED.match(name)}
        made = await self._ask(call, target, "PUT", key, "", got.body, headers)
        if made.status != 200:
            return False
        target.copies[key, made.headers.get("x-amz-version-id", "")] = "REPLICA"
        return True

    def _mark(self, call: Call, bucket: Bucket, key: str) -> None:
        for rule in self._matching(bucket, key):
            target = self._buckets.get(rule.bucket)
            if rule.markers and target is not None:
                self._links.send(bucket.region, target.region, self._marker(call, target, key))

    def _marker(self, call: Call, target: Bucket, key: str) -> Any:
        async def deliver() -> None:
            await self._ask(call, target, "DELETE", key)

        return deliver

    def _markers(self, call: Call, bucket: Bucket, reply: Reply) -> None:
        refused = {_text(error, "Key") for error in ET.fromstring(reply.body).findall(f"{_NS}Error")}
        root = ET.fromstring(call.body)
        for each in root.iter():
            if each.tag.endswith("Object") and each.find(f"{_NS}VersionId") is None:
                key = _text(each, "Key")
                if key not in refused:
                    self._mark(call, bucket, key)

    def _matching(self, bucket: Bucket, key: str) -> list[Rule]:
        return [rule for rule in bucket.rules if key.startswith(rule.prefix)]

    async def _ask(
        self,
        call: Call,
        bucket: Bucket,
        method: str,
        key: str,
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        signed = {"Authorization": call.headers.get("Authorization", ""), **(headers or {})}
        path = "/".join(("", bucket.name, *([quote(key)] if key else [])))
        own = Call(method, f"{path}?{query}" if query else path, CIMultiDict(signed), body, call.region, "s3")
        return await self._send(own.to(bucket.region))


def _text(element: ET.Element, path: str) -> str:
    found = element.find("/".join(f"{_NS}{part}" for part in path.split("/")))
    return (found.text or "") if found is not None else ""


def _bad(message: str) -> Refused:
    return Refused("InvalidRequest", message, 400)
