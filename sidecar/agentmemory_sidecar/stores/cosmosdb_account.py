"""An Azure CosmosDB account from an event loop: which of its endpoints to use, one deadline a call, no retries but ours.

Azure's client would choose endpoints by itself, and turn a write from one region to another. Here each client is told one
endpoint and keeps to it: where the account takes writes in one region, that region's; where it takes them in each, the one
whose head is written, for a head that two regions write loses writes silently (the later one wins).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.cosmos.aio import CosmosClient
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from agentmemory_sidecar.stores.cosmosdb_wire import ATTEMPT, Attempt, Refused, Unanswered, Wire, place
from agentmemory_sidecar.stores.protocols import StoreUnavailable

if TYPE_CHECKING:
    from azure.cosmos.aio import ContainerProxy

T = TypeVar("T")

STORE = "cosmosdb"
CONSISTENT = frozenset({"Strong", "BoundedStaleness", "Session"})
"""The account's defaults under which a read can be made to see what was written before."""
NO_EFFECT = frozenset({400, 401, 403, 404, 409, 412, 413, 429, 449})
"""Answers that say that nothing was written. What others say of a write is no more than that it has no good answer."""
WRITE_FORBIDDEN = (403, 3)
NOT_YET = (404, 1002)
"""The replica has not got as far as the session token of the request."""
RETRY_PAUSE_S = 0.05
"""How long a read waits before its one retry, give or take half; and a request that was throttled, unless told."""
AZURE = ".documents.azure.com"

# They may quote requests, at levels that nobody chose; what matters reaches the caller.
logging.getLogger("azure").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class CosmosOptions:
    """Where a container is, how long to wait for it, and as whom to call it. Files are PEM."""

    endpoint: str
    """The account's URL, or a regional endpoint's."""
    key: str = field(repr=False)
    database: str
    container: str
    locations: tuple[str, ...] = ()
    """Azure's names of the regions to write in where each may be written in, such as ``East US``; the first counts."""
    every_region_writes: bool = False
    """Whether the account takes writes in each of its regions ("multi-region writes")."""
    deadline_s: float = 5.0
    """Every call ends by then."""
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 3.0
    """Longest silence of a connection."""
    ca_file: str = ""
    """Authorities to trust; empty for the system's."""
    cert_file: str = ""
    """A client certificate, with its key in ``key_file``."""
    key_file: str = ""


def unavailable(error: Refused | Unanswered, options: CosmosOptions) -> StoreUnavailable:
    """What a call that failed raises."""
    if isinstance(error, Unanswered):
        return StoreUnavailable(STORE, f"{error.reason} {options.endpoint}", definite=not error.sent)
    reason = f"{error.status}/{error.substatus}" if error.substatus else str(error.status)
    if error.status == 404 and not error.on_item:
        reason = (
            f"container {options.database}/{options.container} not found in {options.endpoint}: create it (docs/stores.md "
            "says how), or correct state.cosmosdb.database, container or endpoint"
        )
    elif error.status == 401:
        reason += ": the account refuses this key; check keyFrom and this machine's clock"
    elif (error.status, error.substatus) == WRITE_FORBIDDEN:
        reason += ": this region takes no writes now"
    elif error.status == 403:
        reason += ": the account refuses this key or this address; check keyFrom and the account's firewall"
    elif error.status == 413:
        reason += ": larger than the 2 MB of an item"
    elif error.status in (429, 449):
        reason += ": throttled; raise the container's throughput (maxThroughput)"
    return StoreUnavailable(STORE, reason, definite=error.status in NO_EFFECT)


def written_at(account: Mapping[str, Any], options: CosmosOptions) -> str:
    """The endpoint to use, by the account's own document. Raises StoreUnavailable where the account does not fit."""
    level = (account.get("userConsistencyPolicy") or {}).get("defaultConsistencyLevel", "")
    if level not in CONSISTENT:
        text = f"the account's default consistency is {level or 'unknown'}: make it Session, BoundedStaleness or Strong"
        raise StoreUnavailable(STORE, text, definite=True)
    every = bool(account.get("enableMultipleWriteLocations"))
    if every != options.every_region_writes:
        text = (
            "the account takes writes in every region: say multiRegionWrites: true, so that each writes items of its own"
            if every
            else "the account takes writes in one region alone: leave multiRegionWrites out"
        )
        raise StoreUnavailable(STORE, text, definite=True)
    writable = _endpoints(account, "writableLocations")
    known = writable | _endpoints(account, "readableLocations")
    if len(known) < 2 or not writable:
        return options.endpoint  # an account of one region may know itself by a name that means nothing here
    if not every:
        return next(iter(writable.values()))
    if options.locations:
        name = options.locations[0]
        if _plain(name) in writable:
            return writable[_plain(name)]
        text = f"the account takes no writes in {name}: correct preferredLocations"
        raise StoreUnavailable(STORE, text, definite=True)
    if place(options.endpoint) in map(place, writable.values()):
        return options.endpoint
    text = "say in preferredLocations which region to write in, or name a regional endpoint: every one takes writes"
    raise StoreUnavailable(STORE, text, definite=True)


def other_endpoints(account: Mapping[str, Any], options: CosmosOptions) -> Iterator[str]:
    """Where else the account may be asked about itself, while its own endpoint does not answer."""
    yield from _endpoints(account, "writableLocations").values()
    yield from _endpoints(account, "readableLocations").values()
    parts = urlsplit(options.endpoint)
    host = parts.hostname or ""
    if host.endswith(AZURE):
        for name in options.locations:
            yield f"{parts.scheme}://{host.removesuffix(AZURE)}-{_plain(name)}{AZURE}:{parts.port or 443}/"


def _endpoints(account: Mapping[str, Any], field: str) -> dict[str, str]:
    return {_plain(each["name"]): each["databaseAccountEndpoint"] for each in account.get(field) or ()}


def _plain(name: str) -> str:
    return name.replace(" ", "").casefold()


@dataclass(frozen=True, slots=True)
class Link:
    """An open client that keeps to one endpoint."""

    endpoint: str
    client: CosmosClient
    wire: Wire
    container: ContainerProxy


class Call:
    """What a job works with: one request after the other, on the endpoint that was found for it."""

    def __init__(self, calls: CosmosCalls, link: Link) -> None:
        self._calls = calls
        self._link = link
        self.attempt = Attempt(writes=False)
        """The last request with its answer."""
        self.wrote = False
        """Whether a write of this job has taken effect: then no later failure makes the call one without effect."""

    @property
    def in_doubt(self) -> bool:
        """Whether something may have been written by now."""
        return self.wrote or self.attempt.in_doubt

    async def once(self, operation: Callable[[ContainerProxy], Awaitable[T]]) -> T:
        """A write: sent again only where the answer said that nothing was written. Raises Refused and Unanswered."""
        result = await self._send(operation, writes=True)
        self.wrote = True
        return result

    async def repeat(self, operation: Callable[[ContainerProxy], Awaitable[T]]) -> T:
        """A read, and again, once, if the first try failed for a passing reason. Raises Refused and Unanswered."""
        return await self._send(operation, writes=False)

    async def _send(self, operation: Callable[[ContainerProxy], Awaitable[T]], *, writes: bool) -> T:
        tries_left, moves_left = (0, 1) if writes else (1, 1)
        while True:
            try:
                return await self._try(operation, writes=writes)
            except Refused as error:
                if error.status in (429, 449) or ((error.status, error.substatus) == NOT_YET and not writes):
                    await asyncio.sleep(error.after_s or _pause())
                elif (error.status, error.substatus) == WRITE_FORBIDDEN and moves_left:
                    moves_left -= 1
                    if not await self._move():
                        raise
                elif (error.status >= 500 or error.status in (408, 410)) and tries_left:
                    tries_left -= 1
                    await asyncio.sleep(_pause())
                else:
                    raise
            except Unanswered as error:
                if (not writes or not error.sent) and moves_left:
                    moves_left -= 1
                    if not await self._move() and (writes or not error.sent):
                        raise
                else:
                    self._calls.doubt(self._link)
                    raise

    async def _move(self) -> bool:
        """Whether the account is now written at another endpoint than before."""
        before, self._link = self._link, await self._calls.found_again(self._link)
        return self._link is not before

    async def _try(self, operation: Callable[[ContainerProxy], Awaitable[T]], *, writes: bool) -> T:
        self.attempt = attempt = Attempt(writes)
        mark = ATTEMPT.set(attempt)
        try:
            return await operation(self._link.container)
        except (CosmosBatchOperationError, CosmosHttpResponseError) as error:
            raise refusal(error, attempt) from None
        except AzureError as error:
            raise Unanswered(type(error).__name__, sent=attempt.sent) from None
        finally:
            ATTEMPT.reset(mark)


def refusal(error: CosmosBatchOperationError | CosmosHttpResponseError, attempt: Attempt) -> Refused:
    """Likewise of what Azure's client raises; of a batch, what became of the operation that failed."""
    status = int(error.status_code or 0)
    told = Refused(status, int(getattr(error, "sub_status", 0) or 0), on_item=attempt.on_item)
    if isinstance(error, CosmosBatchOperationError):
        told.operation = int(error.error_index or 0)
        found = (error.operation_responses or [{}])[told.operation]
        told.substatus = int(found.get("subStatusCode") or 0)
        told.after_s = float(found.get("retryAfterMilliseconds") or 0) / 1000
    return told


class CosmosCalls:
    """One container with its connections. ``run`` is all that a store needs."""

    def __init__(self, options: CosmosOptions) -> None:
        """Nothing is sent before the first call. Raises OSError and ssl.SSLError for files that are no certificates."""
        self._options = options
        self._context = _context(options)
        self._links: list[Link] = []
        self._link: Link | None = None
        self._sound = False
        """Whether nothing speaks against the link."""
        self._account: Mapping[str, Any] = {}
        self._finding = asyncio.Lock()
        self._closed = False

    async def run(self, job: Callable[[Call], Awaitable[T]]) -> T:
        """Run ``job`` and return what it returns, by the deadline. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable(STORE, "closed", definite=True)
        call: Call | None = None
        try:
            async with asyncio.timeout(self._options.deadline_s):
                call = Call(self, await self._found())
                return await job(call)
        except TimeoutError:
            reason = f"no answer from {self._options.endpoint} within {self._options.deadline_s:g} s"
            self._sound = False
            raise StoreUnavailable(STORE, reason, definite=not (call and call.in_doubt)) from None
        except (Refused, Unanswered) as error:
            told = unavailable(error, self._options)
            told.definite = told.definite and not (call and call.wrote)
            raise told from None

    def doubt(self, link: Link) -> None:
        """This link failed: look at the account again before the next call."""
        if link is self._link:
            self._sound = False

    async def found_again(self, link: Link) -> Link:
        """The link to use after ``link`` failed; the same where the account says nothing new."""
        self.doubt(link)
        return await self._found()

    async def close(self) -> None:
        self._closed = True
        links, self._links, self._link = self._links, [], None
        for link in links:
            await _close(link)

    async def _found(self) -> Link:
        async with self._finding:
            if self._link is None or not self._sound:
                self._link = await self._find()
                self._sound = True
            return self._link

    async def _find(self) -> Link:
        """Ask the account where to write. Raises Refused, Unanswered and StoreUnavailable."""
        asked = [self._options.endpoint, *other_endpoints(self._account, self._options)]
        failure: Refused | Unanswered | None = None
        for endpoint in dict.fromkeys(asked):
            try:
                link = await self._open(endpoint)
            except Unanswered as error:
                failure = failure or error
                continue
            except Refused as error:
                if error.status < 500:
                    raise
                failure = failure or error
                continue
            break
        else:
            assert failure is not None
            raise failure
        try:
            self._account = json.loads(link.wire.account or b"{}")
            wanted = written_at(self._account, self._options)
            # Only the last one: Azure's client remembers session tokens, of writes that a failover may have lost.
            kept = self._link if self._link and place(self._link.endpoint) == place(wanted) else None
            if kept is not None or place(link.endpoint) != place(wanted):
                await _close(link)
                link = kept or await self._open(wanted)
        except BaseException:
            await _close(link)
            raise
        if link not in self._links:
            self._links.append(link)
        return link

    async def _open(self, endpoint: str) -> Link:
        """A client that keeps to this endpoint and has asked it about the account."""
        options = self._options
        wire = Wire(endpoint, self._context, options.connect_timeout_s, options.read_timeout_s)
        attempt = Attempt(writes=False)
        mark = ATTEMPT.set(attempt)
        try:
            client = CosmosClient(
                endpoint,
                options.key,
                transport=wire,
                enable_endpoint_discovery=False,
                # Only so do regions other than the first take writes.
                multiple_write_locations=options.every_region_writes,
            )
            container = client.get_database_client(options.database).get_container_client(options.container)
            link = Link(endpoint, client, wire, container)
            await client.__aenter__()
        except CosmosHttpResponseError as error:
            raise refusal(error, attempt) from None
        except AzureError as error:
            raise Unanswered(type(error).__name__, sent=False) from None
        except ValueError as error:  # its text may hold the key
            text = "the account's key is none of CosmosDB's: check keyFrom"
            raise StoreUnavailable(STORE, text, definite=True) from error
        finally:
            ATTEMPT.reset(mark)
            if not wire.account:
                await wire.close()
        return link


async def _close(link: Link) -> None:
    with suppress(AzureError):
        await link.client.close()


def _context(options: CosmosOptions) -> ssl.SSLContext | None:
    if not (options.ca_file or options.cert_file):
        return None
    context = ssl.create_default_context(cafile=options.ca_file or None)
    if options.cert_file:
        context.load_cert_chain(options.cert_file, options.key_file)
    return context


def _pause() -> float:
    return RETRY_PAUSE_S * random.uniform(0.5, 1.5)  # noqa: S311
