"""What is S3's own; the rest is in the conformance suite."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from agentmemory_sidecar.stores.aws import AwsOptions
from agentmemory_sidecar.stores.protocols import AlreadyWritten, StoreUnavailable
from agentmemory_sidecar.stores.s3 import S3ObjectStore, S3Options, put_arguments
from tests.faults import FaultProxy
from tests.ministack import Ministack
from tests.sidecar.stores.answers import Answers, s3_error
from tests.sidecar.stores.conformance.aws_backends import REGION, new_bucket, s3, s3_client
from tests.sidecar.stores.conformance.backends import OBJECTS
from tests.sidecar.stores.conformance.objects import ObjectConformance

OBJECTS["s3"] = s3


class TestConformance(ObjectConformance):
    backend = "s3"


def aws(url: str) -> AwsOptions:
    return AwsOptions(REGION, endpoint_url=url, deadline_s=20.0, read_timeout_s=10.0)


# ---------------------------------------------------------------------------------------------------------- the request


def test_an_object_is_put_with_all_that_was_asked_for() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    options = S3Options(
        "bucket",
        prefix="records/",
        owner="123456789012",
        lock_mode="COMPLIANCE",
        lock_days=365,
        encryption="aws:kms",
        kms_key="alias/memory",
    )
    assert put_arguments(options, "a/1", b"one", now) == {
        "Bucket": "bucket",
        "Key": "records/a/1",
        "ExpectedBucketOwner": "123456789012",
        "Body": b"one",
        "IfNoneMatch": "*",
        "ChecksumSHA256": "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0=",
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": now + timedelta(days=365),
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/memory",
        "BucketKeyEnabled": True,
    }
    assert put_arguments(S3Options("bucket"), "a", b"", now).keys() == {
        "Bucket",
        "Key",
        "Body",
        "IfNoneMatch",
        "ChecksumSHA256",
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lock_mode": "GOVERNANCE"}, "lock_mode and lock_days go together"),
        ({"lock_days": 3}, "lock_mode and lock_days go together"),
        ({"lock_mode": "GOVERNANCE", "lock_days": -1}, "at least one day"),
        ({"kms_key": "k"}, "kms_key needs encryption aws:kms"),
        ({"kms_key": "k", "encryption": "AES256"}, "not AES256"),
    ],
)
def test_options_that_contradict_each_other(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        S3Options("bucket", **wrong)


# ---------------------------------------------------------------------------------------------------------- on ministack


@pytest.fixture
async def locked(ministack: Ministack) -> AsyncIterator[tuple[S3ObjectStore, str]]:
    """A store that locks what it writes, and its bucket."""
    bucket = new_bucket(ministack, object_lock=True)
    store = S3ObjectStore(aws(ministack.url), S3Options(bucket, lock_mode="COMPLIANCE", lock_days=1))
    yield store, bucket
    await store.close()


async def test_a_record_under_compliance_cannot_be_removed(
    locked: tuple[S3ObjectStore, str], ministack: Ministack
) -> None:
    store, bucket = locked
    await store.put({"a/1": b"one"})
    client = s3_client(ministack.url)
    head = client.head_object(Bucket=bucket, Key="a/1", ChecksumMode="ENABLED")
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert head["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(hours=23)
    assert head["ChecksumSHA256"] == "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z/0Me0="
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key="a/1", VersionId=head["VersionId"], BypassGovernanceRetention=True)
    await store.put({"a/1": b"one"})
    with pytest.raises(AlreadyWritten):
        await store.put({"a/1": b"two"})
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 1
    client.close()


async def test_records_and_blobs_share_a_bucket_and_no_key(ministack: Ministack) -> None:
    bucket = new_bucket(ministack)
    records, blobs = (
        S3ObjectStore(aws(ministack.url), S3Options(bucket, prefix=prefix)) for prefix in ("records/", "blobs/")
    )
    await records.put({"t/1": b"record"})
    await blobs.put({"t/1": b"blob"})
    assert (await records.get("t/1"), await blobs.get("t/1")) == (b"record", b"blob")
    assert [key async for key in records.keys("")] == ["t/1"]
    await records.close()
    await blobs.close()


async def test_a_missing_bucket_is_named_with_the_way_out(ministack: Ministack) -> None:
    store = S3ObjectStore(aws(ministack.url), S3Options("nowhere"))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.ping(),
        lambda: store.put({"a": b"x"}),
        lambda: store.get("a"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as told:
            await call()
        assert told.value.definite
        assert told.value.reason.startswith("bucket 'nowhere' not found in us-east-1 at http://127.0.0.1:")
    await store.close()


async def test_an_object_cut_short_is_an_outage(ministack: Ministack) -> None:
    options = S3Options(new_bucket(ministack))
    async with FaultProxy((ministack.host, ministack.port)) as proxy:
        store = S3ObjectStore(aws(f"http://{proxy.host}:{proxy.port}"), options)
        await store.put({"a": bytes(100_000)})
        proxy.cut_after(20_000)
        with pytest.raises(StoreUnavailable):
            await store.get("a")
        assert await store.get("a") == bytes(100_000)
        await store.close()


# ---------------------------------------------------------------------------------------------------- answers on the wire


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers().running() as running:
        yield running


@pytest.fixture
async def told(answers: Answers, aws_credentials: None) -> AsyncIterator[S3ObjectStore]:
    """A store whose S3 answers what it was told to."""
    store = S3ObjectStore(aws(answers.url), S3Options("bucket", owner="123456789012"))
    yield store
    await store.close()


CONFLICT = s3_error(409, "ConditionalRequestConflict")
EXISTS = s3_error(412, "PreconditionFailed")
MISSING = s3_error(404, "NoSuchKey")


@pytest.mark.parametrize("refusal", [CONFLICT, EXISTS], ids=["409", "412"])
async def test_a_put_that_met_another_is_tried_again(
    answers: Answers, told: S3ObjectStore, refusal: tuple[int, bytes]
) -> None:
    answers.prepared = [refusal, MISSING, (200, b"")]
    await told.put({"a": b"one"})
    assert [request.split()[0] for request in answers.requests] == ["PUT", "GET", "PUT"]


async def test_a_put_that_met_another_of_the_same_bytes_is_done(answers: Answers, told: S3ObjectStore) -> None:
    answers.prepared = [CONFLICT, (200, b"one")]
    await told.put({"a": b"one"})
    answers.prepared = [EXISTS, (200, b"other")]
    with pytest.raises(AlreadyWritten):
        await told.put({"a": b"one"})


async def test_a_put_that_keeps_meeting_others_gives_up(answers: Answers, told: S3ObjectStore) -> None:
    answers.prepared = [CONFLICT, MISSING] * 3
    with pytest.raises(StoreUnavailable, match="ConditionalRequestConflict") as failed:
        await told.put({"a": b"one"})
    assert failed.value.definite


@pytest.mark.parametrize(
    ("status", "code", "definite", "says"),
    [
        (403, "AccessDenied", True, "the role needs s3:PutObject, .* must belong to account 123456789012"),
        (301, "PermanentRedirect", True, "bucket 'bucket' is not in us-east-1 at .*: correct the region"),
        (503, "SlowDown", True, "SlowDown"),
        (500, "InternalError", False, "InternalError"),
    ],
)
async def test_what_a_refusal_means(
    answers: Answers, told: S3ObjectStore, status: int, code: str, definite: bool, says: str
) -> None:
    answers.prepared = [s3_error(status, code)] * 2
    with pytest.raises(StoreUnavailable, match=says) as failed:
        await told.put({"a": b"one"})
    assert failed.value.definite is definite


async def test_a_read_is_tried_once_more(answers: Answers, told: S3ObjectStore) -> None:
    answers.prepared = [s3_error(503, "SlowDown"), (200, b"at the second try")]
    assert await told.get("a") == b"at the second try"
