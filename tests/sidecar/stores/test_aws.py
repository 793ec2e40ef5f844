"""Errors, deadlines and credentials of the AWS clients, over real sockets."""

import asyncio
import gc
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import pytest
from botocore import exceptions as aws

from agentmemory_sidecar.stores.aws import AwsCalls, AwsOptions, Call, all_of, unavailable
from agentmemory_sidecar.stores.dynamodb import DynamoStateStore
from agentmemory_sidecar.stores.dynamodb_item import CHUNK_BYTES
from agentmemory_sidecar.stores.protocols import ABSENT, Conversation, StoreUnavailable, Versions
from tests.faults import FaultProxy
from tests.ministack import Ministack
from tests.sidecar.stores.answers import Answers, dynamodb_error
from tests.sidecar.stores.conformance.aws_backends import new_table

pytestmark = pytest.mark.usefixtures("aws_credentials")

T = TypeVar("T")
TALK = Conversation("tenant", "session")
QUICK = 0.4
"""A deadline in seconds that a test waits out."""


@asynccontextmanager
async def store_at(url: str, *, read_timeout_s: float = 10.0) -> AsyncIterator[DynamoStateStore]:
    options = AwsOptions("us-east-1", endpoint_url=url, deadline_s=20.0, read_timeout_s=read_timeout_s)
    store = DynamoStateStore(options, "memory")
    try:
        yield store
    finally:
        await store.close()


async def write(store: DynamoStateStore) -> None:
    await store.write(TALK, b"body", expect=ABSENT, new=Versions(1, 1), pending=False)


# -------------------------------------------------------------------------------------------------- answers on the wire


@pytest.mark.parametrize(
    ("status", "code", "definite"),
    [
        (400, "ThrottlingException", True),
        (400, "ProvisionedThroughputExceededException", True),
        (400, "RequestLimitExceeded", True),
        (400, "AccessDeniedException", True),
        (400, "UnrecognizedClientException", True),
        (400, "ExpiredTokenException", True),
        (400, "ValidationException", True),
        (400, "ResourceNotFoundException", True),
        (400, "ReplicatedWriteConflictException", True),
        (413, "RequestEntityTooLarge", True),
        (500, "InternalServerError", False),
        (503, "ServiceUnavailable", False),
        (503, "ThrottlingException", True),
    ],
)
async def test_only_a_refusal_is_known_to_have_had_no_effect(
    answers: Answers, status: int, code: str, definite: bool
) -> None:
    answers.prepared = [dynamodb_error(status, code)]
    async with store_at(answers.url) as store:
        with pytest.raises(StoreUnavailable) as failed:
            await write(store)
    assert failed.value.definite is definite
    assert code in failed.value.reason
    assert len(answers.requests) == 1  # no retry, ours or botocore's


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("AccessDeniedException", "grant it UpdateItem"),
        ("ExpiredTokenException", "check them, their expiry and this machine's clock"),
        ("ResourceNotFoundException", "table 'memory' not found in us-east-1 at http://127.0.0.1:"),
    ],
)
async def test_a_refusal_says_what_to_do(answers: Answers, code: str, says: str) -> None:
    answers.prepared = [dynamodb_error(400, code)]
    async with store_at(answers.url) as store:
        with pytest.raises(StoreUnavailable) as failed:
            await write(store)
    assert says in failed.value.reason


@pytest.mark.parametrize(("status", "code"), [(400, "ThrottlingException"), (500, "InternalServerError")])
async def test_a_read_is_tried_once_more(answers: Answers, status: int, code: str) -> None:
    answers.prepared = [dynamodb_error(status, code)]
    async with store_at(answers.url) as store:
        assert await store.versions(TALK) == ABSENT
        assert len(answers.requests) == 2
        answers.prepared = [dynamodb_error(status, code)] * 3
        with pytest.raises(StoreUnavailable):
            await store.versions(TALK)
    assert len(answers.requests) == 4


async def test_a_read_that_was_refused_is_not_tried_again(answers: Answers) -> None:
    answers.prepared = [dynamodb_error(400, "AccessDeniedException")]
    async with store_at(answers.url) as store:
        with pytest.raises(StoreUnavailable):
            await store.versions(TALK)
    assert len(answers.requests) == 1


async def test_every_read_is_strongly_consistent_but_the_index(answers: Answers) -> None:
    """No stand-in can show this: they all are."""
    nothing = (200, b'{"Items": []}')
    row = b'{"Items": [{"pk": {"S": "t/s"}, "sk": {"S": "root#head#main"}}], "Responses": {}, "UnprocessedKeys": {}}'
    async with store_at(answers.url) as store:
        await store.versions(TALK)
        await store.ping()
        answers.prepared = [nothing] * 19
        await store.read(TALK)
        await store.agents("tenant", "session")
        await store.get_chunks(TALK, "blob")
        await store.sessions("tenant")
        answers.prepared = [(200, row)] * 8
        await store.pending("tenant")
    reads = [json.loads(body) for body in answers.bodies]
    assert len(reads) == 2 + 19 + 8
    for read in reads:
        batch = next(iter(read.get("RequestItems", {}).values()), read)
        assert batch.get("ConsistentRead", False) is ("IndexName" not in read), read


async def test_a_call_that_failed_half_way_had_an_effect(answers: Answers) -> None:
    locked = b'{"Attributes": {"turn": {"N": "0"}, "version": {"N": "1"}, "expires": {"N": "9999999999"}}}'
    throttled = dynamodb_error(400, "ThrottlingException")
    async with store_at(answers.url) as store:
        answers.prepared = [throttled]
        with pytest.raises(StoreUnavailable) as refused:
            await store.lock(TALK, "mine", 60)
        assert refused.value.definite
        answers.prepared = [(200, locked), throttled, throttled]
        with pytest.raises(StoreUnavailable) as half:
            await store.lock(TALK, "mine", 60)
        assert not half.value.definite
        answers.prepared = [(200, b"{}"), throttled]
        with pytest.raises(StoreUnavailable) as entries:
            await store.add_entries(TALK, {"a": b"1", "b": b"2"})
        assert not entries.value.definite
        answers.prepared = [throttled]
        with pytest.raises(StoreUnavailable) as chunks:
            await store.put_chunks(TALK, "blob", bytes(2 * CHUNK_BYTES))
        assert not chunks.value.definite


# ------------------------------------------------------------------------------------------------- trouble with sockets


async def test_a_refused_connection_is_known_to_have_had_no_effect() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, but not listening
        async with store_at(f"http://127.0.0.1:{unheard.getsockname()[1]}") as store:
            with pytest.raises(StoreUnavailable) as failed:
                await write(store)
    assert failed.value.definite


async def test_a_name_that_does_not_resolve_is_known_to_have_had_no_effect() -> None:
    async with store_at("http://dynamodb.invalid") as store:
        with pytest.raises(StoreUnavailable) as failed:
            await write(store)
    assert failed.value.definite
    assert "dynamodb.invalid" in failed.value.reason


async def test_a_silent_server_leaves_a_write_in_doubt(ministack: Ministack) -> None:
    async with FaultProxy((ministack.host, ministack.port)) as proxy:
        proxy.blackhole()
        async with store_at(f"http://{proxy.host}:{proxy.port}", read_timeout_s=QUICK) as store:
            with pytest.raises(StoreUnavailable, match="ReadTimeoutError") as failed:
                await write(store)
    assert not failed.value.definite


async def test_a_connection_cut_before_the_answer_leaves_a_write_in_doubt(ministack: Ministack) -> None:
    async with FaultProxy((ministack.host, ministack.port)) as proxy:
        proxy.lose_next_reply()
        async with store_at(f"http://{proxy.host}:{proxy.port}") as store:
            with pytest.raises(StoreUnavailable, match="ConnectionClosedError") as failed:
                await write(store)
    assert not failed.value.definite


@pytest.mark.parametrize(
    ("error", "definite"),
    [
        (aws.ConnectTimeoutError(endpoint_url="http://far"), True),
        (aws.ProxyConnectionError(proxy_url="http://proxy", error=OSError()), True),
        (aws.ParamValidationError(report="user text"), True),
        (aws.NoCredentialsError(), True),
        (aws.CredentialRetrievalError(provider="web-identity", error_msg="secret"), True),
        (aws.SSLError(endpoint_url="https://far", error=OSError()), False),
        (aws.HTTPClientError(error=OSError("anything")), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_fails_before_the_request_is_sent(error: Exception, definite: bool) -> None:
    mapped = unavailable(error, "dynamodb", {})
    assert mapped.definite is definite
    assert type(error).__name__ in mapped.reason
    assert not {"user", "secret"} & set(mapped.reason.split())


# -------------------------------------------------------------------------------------------- the deadline and the pool


async def test_the_deadline_holds_whatever_the_thread_does() -> None:
    """And a call that got no thread by then is known never to have begun."""
    goes_on = threading.Event()
    ended = threading.Event()

    def job(call: Call[object]) -> None:
        goes_on.wait()
        ended.set()

    calls = calls_of(deadline_s=QUICK, threads=1)
    try:
        first, second = await asyncio.gather(calls.run(job), calls.run(job), return_exceptions=True)
        assert isinstance(first, StoreUnavailable)
        assert not first.definite
        assert isinstance(second, StoreUnavailable)
        assert second.definite
        assert not ended.is_set()
        goes_on.set()
        assert await eventually(lambda: calls.run(lambda call: "served again")) == "served again"
        assert ended.is_set()
    finally:
        goes_on.set()
        await calls.close()


async def test_a_job_that_nobody_waits_for_sends_nothing_more() -> None:
    first_sent, goes_on = threading.Event(), threading.Event()
    sent: list[str] = []
    outcome: list[Exception] = []

    def request(name: str) -> None:
        sent.append(name)
        first_sent.set()
        goes_on.wait()

    def job(call: Call[object]) -> None:
        call.once(request, "first")
        try:
            call.once(request, "second")
        except StoreUnavailable as error:
            outcome.append(error)
            raise

    calls = calls_of(deadline_s=20.0, threads=1)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(calls.run(job))
            await asyncio.to_thread(first_sent.wait)
            task.cancel()
        assert task.cancelled()
        goes_on.set()
        assert await calls.run(lambda call: "the pool is usable") == "the pool is usable"
        assert sent == ["first"]
        assert len(outcome) == 1
    finally:
        goes_on.set()
        await calls.close()


async def test_a_failure_that_comes_with_the_cancellation_is_nobody_s_to_report() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    calls = calls_of(deadline_s=20.0, threads=1)
    answered = threading.Event()

    def job(call: Call[object]) -> None:
        answered.set()
        raise StoreUnavailable("aws", "away", definite=True)

    asked = asyncio.get_running_loop().create_task(calls.run(job))
    await asyncio.sleep(0)
    assert answered.wait(20)
    calls._pool.submit(lambda: None).result(20)  # the loop has been told by now, and has not looked
    await asyncio.sleep(0)
    asked.cancel()
    with suppress(asyncio.CancelledError, StoreUnavailable):
        await asked
    del asked
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []
    await calls.close()


async def test_closing_answers_those_who_wait_for_a_thread() -> None:
    started, goes_on = threading.Event(), threading.Event()

    def job(call: Call[object]) -> str:
        started.set()
        goes_on.wait()
        return "done"

    calls = calls_of(deadline_s=20.0, threads=1)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(calls.run(job))
        await asyncio.to_thread(started.wait)
        waiting = group.create_task(outcome_of(calls.run(job)))
        await asyncio.sleep(0)
        await calls.close()
        goes_on.set()
    assert running.result() == "done"
    refused = waiting.result()
    assert isinstance(refused, StoreUnavailable)
    assert refused.definite


async def test_the_deadline_over_a_black_hole_and_the_return(ministack: Ministack) -> None:
    table = new_table(ministack)
    async with FaultProxy((ministack.host, ministack.port)) as proxy:
        options = AwsOptions("us-east-1", f"http://{proxy.host}:{proxy.port}", deadline_s=3 * QUICK, read_timeout_s=60)
        store = DynamoStateStore(options, table)
        proxy.blackhole()
        # More calls than threads: nobody waits longer than the deadline.
        outcomes = await asyncio.gather(*(store.versions(TALK) for _ in range(12)), return_exceptions=True)
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        await proxy.heal()
        assert await eventually(lambda: store.versions(TALK)) == ABSENT
        await store.close()


def test_nothing_of_aws_is_loaded_before_the_first_call() -> None:
    """A sidecar whose stores are elsewhere does not pay for it."""
    code = (
        "import sys; from agentmemory_sidecar.stores import dynamodb, s3; from agentmemory_sidecar.stores.aws import *;"
        "dynamodb.DynamoStateStore(AwsOptions('r'), 't'); s3.S3ObjectStore(AwsOptions('r'), s3.S3Options('b'));"
        "sys.exit('botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_of_several_failures_the_worst_is_raised() -> None:
    async def fail(error: Exception) -> None:
        raise error

    harmless = StoreUnavailable("s", "refused", definite=True)
    doubtful = StoreUnavailable("s", "silent", definite=False)
    with pytest.raises(StoreUnavailable, match="silent"):
        await all_of(fail(error) for error in (harmless, doubtful, harmless))
    with pytest.raises(StoreUnavailable, match="refused") as only:
        await all_of(fail(error) for error in (harmless, harmless))
    assert only.value.definite
    with pytest.raises(ValueError, match="a bug"):
        await all_of(fail(error) for error in (harmless, doubtful, ValueError("a bug")))


# ---------------------------------------------------------------------------------------------------------- credentials


def calls_of(*, deadline_s: float, threads: int) -> AwsCalls[object]:
    """Threads without a client."""
    options = AwsOptions("us-east-1", deadline_s=deadline_s, threads=threads)
    return AwsCalls("test", options, lambda session, config: NoClient(), {})


class NoClient:
    def close(self) -> None: ...


async def eventually(call: Callable[[], Awaitable[T]]) -> T:
    """What the call returns when it no longer raises; a short deadline may hit it again on a busy machine."""
    async with asyncio.timeout(30):
        while True:
            with suppress(StoreUnavailable):
                return await call()


async def outcome_of(call: Awaitable[object]) -> object:
    try:
        return await call
    except StoreUnavailable as error:
        return error
