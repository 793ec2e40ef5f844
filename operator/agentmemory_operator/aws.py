"""The AWS API as the operator uses it: one call at a time by name, never on the event loop, with few and short retries.

Clients are kept by whom and where they call, for a call costs milliseconds and a client a hundred of them.
"""

import asyncio
import hashlib
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from botocore import exceptions as aws
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from agentmemory_operator.tiers import TierFailed

THREADS = 8
"""For each region: one that hangs must not take the threads of the others."""
CLIENTS = 128
"""The most clients that are kept."""
DEADLINE_S = 20.0
"""Every call ends by then, waiting for a thread included."""
CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "adaptive", "total_max_attempts": 3},
    max_pool_connections=THREADS,
    tcp_keepalive=True,
    user_agent_extra="agentmemory-operator",
)
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"})
CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


@dataclass(frozen=True, slots=True)
class Access:
    """Where a service is called, and as whom."""

    region: str
    """The AWS region to call and sign for."""
    endpoint: str = ""
    """The service's URL; empty for AWS's own."""
    sts_endpoint: str = ""
    """Where the role is assumed; empty for AWS's own."""
    role_arn: str = ""
    """A role to assume first; empty for none."""
    access_key_id: str = field(default="", repr=False)
    """A static key's id; empty for the process's own identity."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    ca_pem: str = field(default="", repr=False)
    """Authorities to trust for the endpoint; empty for botocore's."""
    certificate_pem: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)

    @property
    def account(self) -> str:
        """The account of the role; empty where it is not known."""
        parts = self.role_arn.split(":")
        return parts[4] if len(parts) > 5 else ""


class AwsRefused(TierFailed):
    """AWS answered no. ``code`` is its word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def denied(self) -> bool:
        """Whether rights or credentials are what is missing."""
        return self.code in DENIED | CREDENTIALS


class AwsAway(TierFailed):
    """No answer, or one that says that the service is down."""


class Aws:
    """Calls by name: ``await aws.call(access, "dynamodb", "describe_table", TableName=…)``."""

    def __init__(self, threads: int = THREADS, deadline_s: float = DEADLINE_S) -> None:
        self._count = threads
        self._deadline_s = deadline_s
        self._threads: dict[str, ThreadPoolExecutor] = {}
        """By region."""
        self._clients: OrderedDict[tuple[Access, str], Any] = OrderedDict()
        self._making = threading.Lock()
        self._files: tempfile.TemporaryDirectory[str] | None = None

    async def call(self, access: Access, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call, with what its answer holds. Raises AwsRefused and AwsAway."""
        work = partial(self._call, access, service, operation, arguments)
        answer = asyncio.get_running_loop().run_in_executor(self._pool(access.region), work)
        done, _ = await asyncio.wait((answer,), timeout=self._deadline_s)
        if not done:
            answer.cancel()  # never starts if it waits for a thread; else the thread ends by its own time-outs
            raise AwsAway(f"{service} in {access.region}: no answer within {self._deadline_s:g} s")
        return answer.result()

    async def close(self) -> None:
        """Start nothing more. A second time does no harm."""
        for pool in self._threads.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()
        if self._files is not None:
            self._files.cleanup()

    def _pool(self, region: str) -> ThreadPoolExecutor:
        if region not in self._threads:
            self._threads[region] = ThreadPoolExecutor(self._count, f"aws-{region}")
        return self._threads[region]

    def _call(self, access: Access, service: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            client = self._client(access, service)
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
            return answer
        except (aws.BotoCoreError, aws.ClientError) as error:
            raise told(error, f"{service} in {access.region}") from error

    def _client(self, access: Access, service: str) -> Any:
        with self._making:  # making a client is not thread-safe, its use is
            found = self._clients.pop((access, service), None)
            if found is None:
                found = self._made(access, service)
            self._clients[access, service] = found
            while len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
            return found

    def _made(self, access: Access, service: str) -> Any:
        settings = CONFIG
        if access.certificate_pem:
            pair = self._file(access.certificate_pem + "\n" + access.key_pem)
            settings = settings.merge(Config(client_cert=pair))
        if service == "s3":
            # A stand-in or a VPC endpoint has no host name for each bucket.
            settings = settings.merge(Config(s3={"addressing_style": "path" if access.endpoint else "auto"}))
        made: Any = session(access)
        return made.create_client(
            service,
            region_name=access.region,
            endpoint_url=access.endpoint or None,
            config=settings,
            verify=self._file(access.ca_pem) if access.ca_pem else None,
        )

    def _file(self, text: str) -> str:
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(prefix="agentmemory-aws-")
        path = Path(self._files.name) / f"{hashlib.sha256(text.encode()).hexdigest()}.pem"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(text)
        return str(path)


def told(error: Exception, where: str) -> TierFailed:
    """What a botocore error means, as a line that says what to do where something can be done."""
    if isinstance(error, aws.ClientError):
        detail = error.response.get("Error", {})
        code, message = str(detail.get("Code", "unknown")), str(detail.get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        text = f"{where}: {error.operation_name}: {code}: {message}".rstrip(": ")
        if status >= 500 and code not in DENIED:
            return AwsAway(text)
        if code in DENIED:
            text += f"; grant the operator's role {error.operation_name} on it"
        elif code in CREDENTIALS:
            text += "; check the credentials, their expiry and the node's clock"
        return AwsRefused(code, text)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.CredentialRetrievalError):
        text = f"{where}: the operator has no AWS credentials: give it a role (Helm), or the resource credentials"
        return AwsRefused("AccessDenied", text)
    if isinstance(error, aws.ParamValidationError):
        return AwsRefused("ParamValidation", f"{where}: {error}")
    endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "")
    return AwsAway(f"{where}: no answer: {type(error).__name__} {endpoint}".rstrip())


def session(access: Access) -> Session:
    """A botocore session: static keys or the default chain, with the assumed role on top."""
    base = _plain(access.region)
    if access.access_key_id:
        base.set_credentials(access.access_key_id, access.secret_access_key, access.session_token or None)
    if not access.role_arn:
        return base
    source = base.get_credentials()
    if source is None:
        raise aws.NoCredentialsError

    def sts(service: str, **credentials: Any) -> Any:
        url, calling = access.sts_endpoint or None, cast("Any", base)
        return calling.create_client(service, endpoint_url=url, config=CONFIG, **credentials)

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=sts,
        source_credentials=source,
        role_arn=access.role_arn,
        extra_args={"RoleSessionName": "agentmemory-operator"},
    )

    class AssumedRole(CredentialProvider):
        METHOD = "assume-role"
        CANONICAL_NAME = "AgentMemoryOperatorRole"

        def load(self) -> DeferredRefreshableCredentials:
            return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method=self.METHOD)

    assumed = _plain(access.region)
    assumed.register_component("credential_provider", CredentialResolver([AssumedRole()]))
    return assumed


def _plain(region: str) -> Session:
    made = Session()
    made.register_component("data_loader", _loader())
    made.set_config_variable("region", region)
    return made


@cache
def _loader() -> Loader:
    """One for all sessions: what it keeps of botocore's service descriptions takes megabytes and time to read."""
    return create_loader()
