"""AWS from an event loop: a bounded thread pool, one deadline a call, no hidden retries, errors that say what happened.

botocore is synchronous, so each store owns a few threads and a client whose connections match them. The task that
awaits a call is answered by the deadline whatever the thread does; the thread is freed by the socket's time-outs.
botocore is imported with the first call, so that a sidecar without AWS stores never pays its 25 MB.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from agentmemory_sidecar.stores.protocols import StoreUnavailable

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.loaders import Loader
    from botocore.session import Session

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")

THROTTLED = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        # Strong global tables: refused because another region is writing the same item.
        "ReplicatedWriteConflictException",
    }
)
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"})
BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationTokenException",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
RETRY_PAUSE_S = 0.05
"""How long a read waits before its one retry, give or take half."""


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """Where a service is, how long to wait for it, and as whom to call it. Files are PEM."""

    region: str
    endpoint_url: str | None = None
    """None for AWS itself; a stand-in's or a VPC endpoint's URL otherwise."""
    role_arn: str | None = None
    """A role to assume with the chain's credentials, refreshed before it expires."""
    sts_endpoint_url: str | None = None
    """Where the role is assumed; None for AWS itself."""
    threads: int = 8
    """Calls in flight at once, and connections kept."""
    deadline_s: float = 5.0
    """Every call ends by then, queueing included."""
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 3.0
    """Longest silence of a connection before its thread gives up."""
    access_key_id: str = ""
    """A static key's id; empty to take the credentials of botocore's default chain."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    """For a static key that is temporary."""
    ca_file: str = ""
    """Authorities to trust for the service; empty for botocore's."""
    cert_file: str = ""
    """A client certificate for the service, with its key in ``key_file``."""
    key_file: str = ""


def unavailable(error: Exception, store: str, hints: Mapping[str, str]) -> StoreUnavailable:
    """The store error for a botocore exception; ``hints`` tell, for each AWS error code, what it means here.

    An error answer below 500 is a refusal, so the call had no effect; so is anything that failed before the request was
    sent. A silent or cut connection, or an answer of 500 and above, leaves it open. AWS's own message is left out,
    because it may quote keys that name a person, except where the request's shape was wrong.
    """
    from botocore import exceptions as aws

    if isinstance(error, aws.ClientError):
        answer = cast("dict[str, Any]", error.response)
        code = str(answer.get("Error", {}).get("Code", "unknown"))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        reason = f"{error.operation_name}: {code}"
        if code in hints:
            reason = f"{hints[code]} ({reason})"
        elif code in DENIED:
            reason = f"{reason}: the role in use may not do this; grant it {error.operation_name} on this resource"
        elif code in BAD_CREDENTIALS:
            reason = f"{reason}: AWS refuses these credentials; check them, their expiry and this machine's clock"
        elif code == "ValidationException":
            reason = f"{reason}: {answer['Error'].get('Message', '')}"
        return StoreUnavailable(store, reason, definite=code in THROTTLED or 0 < status < 500)
    name = type(error).__name__
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.CredentialRetrievalError):
        reason = f"{name}: no AWS credentials found; give the pod an IAM role, or set AWS_ACCESS_KEY_ID"
        return StoreUnavailable(store, reason, definite=True)
    never_sent = (
        aws.EndpointConnectionError,
        aws.ConnectTimeoutError,
        aws.ProxyConnectionError,
        aws.ParamValidationError,
        aws.NoRegionError,
        aws.InvalidRegionError,
        aws.TokenRetrievalError,
        aws.UnauthorizedSSOTokenError,
    )
    if isinstance(error, aws.ParamValidationError):
        return StoreUnavailable(store, f"{name}: the request was malformed", definite=True)
    endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "")
    return StoreUnavailable(store, f"{name} {endpoint}".strip(), definite=isinstance(error, never_sent))


def transient(error: Exception) -> bool:
    """Whether a read is worth a second try at once: throttled, a server's fault, or a kept connection that was cut."""
    from botocore import exceptions as aws

    if isinstance(error, aws.ClientError):
        status = int(cast("dict[str, Any]", error.response).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return error_code(error) in THROTTLED or status >= 500
    return isinstance(error, aws.ConnectionClosedError)


def error_code(error: Exception) -> str:
    """The AWS error code of a ClientError, ``""`` for any other exception."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):  # others have a `response`, too
        return ""
    return str(cast("dict[str, Any]", error.response).get("Error", {}).get("Code", ""))


class Call(Generic[C]):
    """What a job in a pool thread works with: the client, and whether somebody still waits for the outcome."""

    def __init__(self, client: C, store: str, ends: float, abandoned: threading.Event) -> None:
        """``ends`` by the monotonic clock; ``abandoned`` when nobody waits any more: then no further request is sent."""
        self.client = client
        self.wrote = False
        """Whether a write of this job has taken effect: then no later failure makes the call one without effect."""
        self._store = store
        self._ends = ends
        self._abandoned = abandoned

    def once(self, operation: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Send a write, once."""
        result = self._send(operation, *args, **kwargs)
        self.wrote = True
        return result

    def repeat(self, operation: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Send a request that changes nothing, and again, once, if the first try failed for a passing reason."""
        try:
            return self._send(operation, *args, **kwargs)
        except Exception as error:
            pause = RETRY_PAUSE_S * random.uniform(0.5, 1.5)  # noqa: S311
            if not transient(error) or self._abandoned.wait(min(pause, max(0.0, self._ends - time.monotonic()))):
                raise
            return self._send(operation, *args, **kwargs)

    def _send(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._abandoned.is_set() or time.monotonic() >= self._ends:
            reason = "the deadline passed before the request was sent"
            raise StoreUnavailable(self._store, reason, definite=not self.wrote)
        return operation(*args, **kwargs)


class AwsCalls(Generic[C]):
    """One service's client with its threads. ``run`` is all that a store needs."""

    def __init__(
        self,
        store: str,
        options: AwsOptions,
        connect: Callable[[Session, Config], C],
        hints: Mapping[str, str],
    ) -> None:
        """``connect`` makes the client, in a pool thread, with the first call."""
        self._store = store
        self._options = options
        self._connect = connect
        self._hints = hints
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix=f"aws-{store}")
        self._making = threading.Lock()
        self._client: C | None = None
        self._closed = False

    async def run(self, job: Callable[[Call[C]], T]) -> T:
        """Run ``job`` in a thread and return what it returns, by the deadline. Raises StoreUnavailable.

        When the deadline passes or this task is cancelled, a job that waits for a thread never starts, and one that
        runs stops before its next request.
        """
        if self._closed:
            raise StoreUnavailable(self._store, "closed", definite=True)
        abandoned = threading.Event()
        ends = time.monotonic() + self._options.deadline_s
        work: Future[T] = self._pool.submit(self._work, job, ends, abandoned)
        answer = asyncio.wrap_future(work)
        try:
            done, _ = await asyncio.wait((answer,), timeout=self._options.deadline_s)
        finally:
            if not answer.done():
                never_started = work.cancel()
                # Also detaches the thread's late result from a loop that may be closed by then.
                answer.cancel()
                abandoned.set()
            elif not answer.cancelled():
                answer.exception()  # who waited may be cancelled at this moment: then nobody else asks for it
        if not done:
            waited = f"{self._options.deadline_s:g} s"
            if never_started:
                raise StoreUnavailable(self._store, f"no free connection within {waited}", definite=True)
            raise StoreUnavailable(self._store, f"no answer within {waited}", definite=False)
        if answer.cancelled():
            raise StoreUnavailable(self._store, "closed before the call began", definite=True)
        return answer.result()

    async def close(self) -> None:
        """Start nothing more. Calls that run end by their own time-outs and keep nobody waiting."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._disconnect()

    def _work(self, job: Callable[[Call[C]], T], ends: float, abandoned: threading.Event) -> T:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError  # what answers is no AWS: a proxy's page, say

        call = None
        try:
            call = Call(self._ready(), self._store, ends, abandoned)
            return job(call)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            told = unavailable(error, self._store, self._hints)
            told.definite = told.definite and not (call and call.wrote)
            raise told from error
        finally:
            if self._closed:  # in the meantime: close() did not wait for this
                self._disconnect()

    def _disconnect(self) -> None:
        if self._client is not None:
            cast("Any", self._client).close()

    def _ready(self) -> C:
        with self._making:  # client creation is not thread-safe, its use is
            if self._client is None:
                settings = config(self._options)
                if self._options.cert_file:
                    settings = settings.merge(_client_certificate(self._options))
                self._client = self._connect(session(self._options), settings)
            return self._client


def config(options: AwsOptions) -> Config:
    """botocore's own retries are off: only the caller can tell whether a write took effect."""
    from botocore.config import Config

    return Config(
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        max_pool_connections=options.threads,
        retries={"total_max_attempts": 1},
        tcp_keepalive=True,
    )


def _client_certificate(options: AwsOptions) -> Config:
    """For the service alone: where the role is assumed is another place."""
    from botocore.config import Config

    return Config(client_cert=(options.cert_file, options.key_file))


def session(options: AwsOptions) -> Session:
    """A botocore session with the options' key or the default credential chain, or with the assumed role on top."""
    from botocore.session import Session

    base = Session()
    base.register_component("data_loader", _loader())
    base.set_config_variable("region", options.region)
    if options.access_key_id:
        base.set_credentials(options.access_key_id, options.secret_access_key, options.session_token or None)
    if options.role_arn is None:
        return base

    from botocore.credentials import (
        AssumeRoleCredentialFetcher,
        CredentialProvider,
        CredentialResolver,
        DeferredRefreshableCredentials,
    )
    from botocore.exceptions import NoCredentialsError

    source = base.get_credentials()
    if source is None:
        raise NoCredentialsError
    settings = config(options)

    def sts(service: str, **credentials: Any) -> Any:
        return base.create_client(
            cast("Any", service), endpoint_url=options.sts_endpoint_url, config=settings, **credentials
        )

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=sts,
        source_credentials=source,
        role_arn=options.role_arn,
        extra_args={"RoleSessionName": "agentmemory"},
    )

    class AssumedRole(CredentialProvider):
        METHOD = "assume-role"
        CANONICAL_NAME = "AgentMemoryAssumedRole"

        def load(self) -> DeferredRefreshableCredentials:
            return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method=self.METHOD)

    assumed = Session()
    assumed.register_component("data_loader", _loader())
    assumed.set_config_variable("region", options.region)
    assumed.register_component("credential_provider", CredentialResolver([AssumedRole()]))
    return assumed


@cache
def _loader() -> Loader:
    """One for all sessions: what it keeps of botocore's service descriptions takes megabytes and time to read."""
    from botocore.loaders import create_loader

    return create_loader()


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all of these at once; the pool bounds how many run. When some fail, the worst failure is raised after all
    have ended: one that is no outage, else one that may have had an effect, as the others have had if any succeeded."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        worst = min(failures, key=lambda error: error.definite + 1 if isinstance(error, StoreUnavailable) else 0)
        if isinstance(worst, StoreUnavailable) and len(failures) < len(results):
            worst.definite = False
        raise worst
    return cast("list[T]", results)
