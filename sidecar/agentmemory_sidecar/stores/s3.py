"""Archive records or blobs in one S3 bucket of one region, each object written once.

``If-None-Match: *`` makes the first writer the only one, and SHA-256 travels with every object, so that S3 itself
refuses bytes that were damaged on the way. Keys are the store's under a prefix: one bucket holds records and blobs.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, cast

from agentmemory_sidecar.stores.aws import AwsCalls, AwsOptions, Call, all_of, error_code
from agentmemory_sidecar.stores.protocols import AlreadyWritten, StoreUnavailable

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.session import Session
    from mypy_boto3_s3.client import S3Client

STORE = "s3"
ATTEMPTS = 3
"""Tries of a put that meets another one of the same key."""
CONFLICT_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class S3Options:
    """One bucket and how objects are put into it."""

    bucket: str
    prefix: str = ""
    """Put before every key: ``records/`` or ``blobs/``."""
    owner: str | None = None
    """The account that must own the bucket; a bucket of that name in other hands is refused."""
    lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] | None = None
    """Object Lock retention of each object; None leaves it to the bucket's default."""
    lock_days: int = 0
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """None leaves it to the bucket's default."""
    kms_key: str | None = None
    path_style: bool | None = None
    """Bucket in the path instead of the host name; None: exactly when an endpoint is given."""

    def __post_init__(self) -> None:
        if (self.lock_mode is None) != (self.lock_days == 0) or self.lock_days < 0:
            raise ValueError("lock_mode and lock_days go together: a mode and at least one day, or neither")
        if self.kms_key is not None and self.encryption not in ("aws:kms", "aws:kms:dsse"):
            raise ValueError(f"kms_key needs encryption aws:kms or aws:kms:dsse, not {self.encryption}")


def put_arguments(options: S3Options, key: str, data: bytes, now: datetime) -> dict[str, Any]:
    """The PutObject request for one object."""
    arguments: dict[str, Any] = {
        **address(options, key),
        "Body": data,
        "IfNoneMatch": "*",
        "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
    }
    if options.lock_mode is not None:
        arguments["ObjectLockMode"] = options.lock_mode
        arguments["ObjectLockRetainUntilDate"] = now + timedelta(days=options.lock_days)
    if options.encryption is not None:
        arguments["ServerSideEncryption"] = options.encryption
    if options.kms_key is not None:
        arguments["SSEKMSKeyId"] = options.kms_key
        arguments["BucketKeyEnabled"] = options.encryption == "aws:kms"
    return arguments


def address(options: S3Options, key: str) -> dict[str, Any]:
    """The arguments that name one object."""
    return {**bucket(options), "Key": options.prefix + key}


def bucket(options: S3Options) -> dict[str, Any]:
    """The arguments that name the bucket."""
    return {"Bucket": options.bucket} | ({} if options.owner is None else {"ExpectedBucketOwner": options.owner})


def hints(aws: AwsOptions, options: S3Options) -> dict[str, str]:
    """What an error code means for this bucket."""
    where = f"{aws.region} at {aws.endpoint_url}" if aws.endpoint_url else aws.region
    missing = (
        f"bucket {options.bucket!r} not found in {where}: apply the AgentMemory resource so that the operator creates"
        " it, or correct archive.s3.bucketPrefix or the region"
    )
    elsewhere = f"bucket {options.bucket!r} is not in {where}: correct the region"
    denied = f"access to bucket {options.bucket!r} denied: the role needs s3:PutObject, s3:GetObject and s3:ListBucket"
    if options.lock_mode is not None:
        denied += " and s3:PutObjectRetention"
    if options.owner is not None:
        denied += f", and the bucket must belong to account {options.owner}"
    return {
        "NoSuchBucket": missing,
        "404": missing,
        "301": elsewhere,
        "PermanentRedirect": elsewhere,
        "AuthorizationHeaderMalformed": elsewhere,
        "AccessDenied": denied,
        "403": denied,
    }


class S3ObjectStore:
    """:class:`~.protocols.ObjectStore` on one bucket. Use one for records and one for blobs."""

    def __init__(self, aws: AwsOptions, options: S3Options) -> None:
        """Nothing is sent before the first call."""
        self._options = options

        def connect(session: Session, config: Config) -> S3Client:
            from botocore.config import Config
            from botocore.handlers import add_expect_header

            # Records are small: asking leave before sending a body would cost each a round trip.
            session.unregister("before-call.s3", cast("Any", add_expect_header))
            path_style = aws.endpoint_url is not None if options.path_style is None else options.path_style
            styled = config.merge(Config(s3={"addressing_style": "path" if path_style else "auto"}))
            return cast(
                "S3Client",
                session.create_client("s3", endpoint_url=aws.endpoint_url, config=styled, verify=aws.ca_file or None),
            )

        self._calls: AwsCalls[S3Client] = AwsCalls(STORE, aws, connect, hints(aws, options))

    async def put(self, objects: Mapping[str, bytes]) -> None:
        await all_of(self._put(key, data) for key, data in objects.items())

    async def get(self, key: str) -> bytes | None:
        return await self._calls.run(lambda call: self._get(call, key))

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """A deadline for each page."""
        start = ""
        while True:
            page, start = await self._page(prefix, start)
            for key in page:
                yield key
            if not start:
                return

    async def ping(self) -> None:
        """That the bucket is there and may be used by this role; it writes nothing, for nothing could be removed."""
        await self._calls.run(lambda call: call.repeat(call.client.head_bucket, **bucket(self._options)))

    async def close(self) -> None:
        await self._calls.close()

    async def _put(self, key: str, data: bytes) -> None:
        def job(call: Call[S3Client]) -> None:
            for attempt in range(ATTEMPTS):
                try:
                    call.once(call.client.put_object, **put_arguments(self._options, key, data, datetime.now(UTC)))
                    return
                except Exception as error:
                    refusal = error_code(error)
                    if refusal not in ("PreconditionFailed", "ConditionalRequestConflict"):
                        raise
                there = self._get(call, key)
                if there is not None:
                    if there != data:
                        raise AlreadyWritten("another object of this key exists with other bytes")
                    return
                # Another put of this key is under way, or failed in between.
                time.sleep(CONFLICT_PAUSE_S * (attempt + 1))
            raise StoreUnavailable(STORE, f"PutObject: {refusal} although the key is free", definite=True)

        await self._calls.run(job)

    def _get(self, call: Call[S3Client], key: str) -> bytes | None:
        def fetch() -> bytes:
            return call.client.get_object(**address(self._options, key))["Body"].read()

        try:
            return call.repeat(fetch)
        except Exception as error:
            if error_code(error) == "NoSuchKey":
                return None
            raise

    async def _page(self, prefix: str, start: str) -> tuple[list[str], str]:
        """One page of keys and where the next begins, empty at the end."""
        arguments = {**bucket(self._options), "Prefix": self._options.prefix + prefix}
        if start:
            arguments["ContinuationToken"] = start
        answer = await self._calls.run(lambda call: call.repeat(call.client.list_objects_v2, **arguments))
        skip = len(self._options.prefix)
        return [row["Key"][skip:] for row in answer.get("Contents", [])], answer.get("NextContinuationToken", "")
