"""Which endpoint is used, what is tried again, and what a failure tells of a write."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from azure.core.pipeline.transport import HttpRequest
from cryptography import x509

from agentmemory_sidecar.stores.cosmosdb import CosmosStateStore
from agentmemory_sidecar.stores.cosmosdb_account import CosmosOptions, other_endpoints, written_at
from agentmemory_sidecar.stores.cosmosdb_wire import Unanswered, Wire
from agentmemory_sidecar.stores.protocols import ABSENT, Conversation, StaleWrite, StoreUnavailable, Versions
from tests.cosmos import CosmosAccount
from tests.faults import FaultProxy
from tests.sidecar.stores.answers import Answers
from tests.sidecar.stores.conformance.cosmos_backends import options, with_container
from tests.sidecar.stores.postgres.test_tls import Authority

TALK = Conversation("tenant", "session")
URL = "https://acme.documents.azure.com:443/"


async def create(store: CosmosStateStore, talk: Conversation = TALK) -> None:
    await store.write(talk, b"one", expect=ABSENT, new=Versions(1, 1), pending=False)


@pytest.fixture
async def account() -> AsyncIterator[CosmosAccount]:
    async with CosmosAccount() as account:
        yield with_container(account)


@pytest.fixture
async def store(account: CosmosAccount) -> AsyncIterator[CosmosStateStore]:
    store = CosmosStateStore(options(account.url, account))
    yield store
    await store.close()


# ---------------------------------------------------------------------------------------------------- which endpoint


def document(
    *writable: str, every: bool = False, consistency: str = "Session", also: str = "West US"
) -> dict[str, Any]:
    def place(name: str) -> dict[str, str]:
        return {"name": name, "databaseAccountEndpoint": f"https://acme-{name[:4].lower()}.example/"}

    readable = list(dict.fromkeys((*writable, also)))
    return {
        "writableLocations": [place(name) for name in writable],
        "readableLocations": [place(name) for name in readable],
        "enableMultipleWriteLocations": every,
        "userConsistencyPolicy": {"defaultConsistencyLevel": consistency},
    }


def chosen(account: dict[str, Any], **more: Any) -> str:
    return written_at(account, CosmosOptions(URL, "key", "d", "c", **more))


def test_one_region_takes_the_writes() -> None:
    assert chosen(document("East US")) == "https://acme-east.example/"
    assert chosen(document("East US"), locations=("West US",)) == "https://acme-east.example/"


def test_account_of_one_region_is_called_as_the_resource_says() -> None:
    assert chosen(document("East US", also="East US")) == URL


def test_where_each_region_writes_the_first_preferred_one_is_this_ones() -> None:
    both = document("East US", "West US", every=True)
    assert chosen(both, every_region_writes=True, locations=("westus", "East US")) == "https://acme-west.example/"
    regional = CosmosOptions("https://acme-west.example:443", "key", "d", "c", every_region_writes=True)
    assert written_at(both, regional) == regional.endpoint


@pytest.mark.parametrize(
    ("account", "more", "told"),
    [
        (document("East US", consistency="Eventual"), {}, "default consistency is Eventual: make it Session"),
        (document("East US", consistency="ConsistentPrefix"), {}, "make it Session, BoundedStaleness or Strong"),
        (document("East US", "West US", every=True), {}, "say multiRegionWrites: true"),
        (document("East US"), {"every_region_writes": True}, "leave multiRegionWrites out"),
        (document("East US", "West US", every=True), {"every_region_writes": True}, "preferredLocations which region"),
        (
            document("East US", "West US", every=True),
            {"every_region_writes": True, "locations": ("Mars",)},
            "takes no writes in Mars: correct preferredLocations",
        ),
    ],
)
def test_account_that_does_not_fit_is_refused_with_the_way_out(
    account: dict[str, Any], more: dict[str, Any], told: str
) -> None:
    with pytest.raises(StoreUnavailable, match=told) as refused:
        chosen(account, **more)
    assert refused.value.definite


def test_regional_endpoints_of_azure_are_known_before_the_account_has_told_any() -> None:
    asked = CosmosOptions(URL, "key", "d", "c", locations=("East US 2",))
    assert list(other_endpoints({}, asked)) == ["https://acme-eastus2.documents.azure.com:443/"]
    assert list(other_endpoints({}, replace(asked, endpoint="http://127.0.0.1:8081/"))) == []


async def test_writes_go_where_the_account_takes_them_and_follow_it() -> None:
    """One head: a sidecar in either region writes, and reads, in the one region that takes writes."""
    async with CosmosAccount("East US", "West US") as account:
        with_container(account)
        west = CosmosStateStore(options(account.places["West US"].url, account, locations=("West US",)))
        await create(west)
        assert {region for region, _, path in account.requests if path.endswith("/docs")} == {"East US"}
        account.fail_over("West US")  # the old region still answers, and refuses writes
        await west.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
        assert await west.versions(TALK) == Versions(2, 2)
        account.requests.clear()
        await west.versions(TALK)
        assert {region for region, _, _ in account.requests} == {"West US"}
        await account.settle()
        account.fail_over("East US")
        await west.write(TALK, b"three", expect=Versions(2, 2), new=Versions(3, 3), pending=True)
        assert (await west.read(TALK)).body == b"three"
        assert await west.pending("tenant") == [TALK]
        await west.close()


async def test_writes_that_a_failover_lost_hinder_nobody() -> None:
    async with CosmosAccount("East US", "West US", lag_s=3600) as account:
        with_container(account)
        store = CosmosStateStore(options(account.url, account))
        await create(store)
        account.fail_over("West US")
        with pytest.raises(StaleWrite):
            await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
        assert await store.versions(TALK) == ABSENT
        await create(store)
        assert (await store.read(TALK)).body == b"one"
        await store.close()


async def test_region_that_died_is_left_within_the_call_that_meets_it() -> None:
    async with CosmosAccount("East US", "West US") as account:
        with_container(account)
        east = account.places["East US"]
        async with FaultProxy(("127.0.0.1", east.port)) as proxy:
            east.url = f"http://{proxy.host}:{proxy.port}/"
            store = CosmosStateStore(options(east.url, account))
            await create(store)
            await account.settle()
            await proxy.refuse()
            account.fail_over("West US")
            assert await store.versions(TALK) == Versions(1, 1)
            await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
            await store.close()


async def test_head_is_never_written_in_another_region() -> None:
    """Azure's client would have turned the write to the next region."""
    async with CosmosAccount("East US", "West US", every_region_writes=True) as account:
        with_container(account)
        east = account.places["East US"]
        async with FaultProxy(("127.0.0.1", east.port)) as proxy:
            east.url = f"http://{proxy.host}:{proxy.port}/"
            given = options(account.places["West US"].url, account, every_region_writes=True, locations=("East US",))
            store = CosmosStateStore(given, head="east")
            await create(store)
            await proxy.refuse()
            account.requests.clear()
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
            assert [path for _, _, path in account.requests if "/docs" in path] == []
            await proxy.heal()
            await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
            await store.close()


async def test_request_to_another_endpoint_does_not_leave() -> None:
    wire = Wire("http://127.0.0.1:1/", None, 1, 1)
    with pytest.raises(Unanswered, match="another endpoint") as kept:
        await wire.send(HttpRequest("POST", "http://127.0.0.1:2/dbs/d/colls/c/docs"))
    assert not kept.value.sent


# ------------------------------------------------------------------------------------------------- what is tried again


@pytest.mark.parametrize("status", [429, 449])
async def test_throttled_requests_wait_as_they_are_told(
    store: CosmosStateStore, account: CosmosAccount, status: int
) -> None:
    await create(store)
    account.faults.answers = [(status, 3200)] * 12  # more often than Azure's client would bear
    await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
    account.faults.answers = [(status, 3200)] * 3
    assert await store.versions(TALK) == Versions(2, 2)


async def test_what_is_throttled_beyond_the_deadline_had_no_effect(account: CosmosAccount) -> None:
    store = CosmosStateStore(options(account.url, account, deadline_s=0.5))
    await store.ping()
    account.faults.answers, account.faults.after_ms = [(429, 3200)] * 100, 5000
    with pytest.raises(StoreUnavailable, match=r"within 0.5 s") as refused:
        await create(store)
    assert refused.value.definite
    await store.close()


@pytest.mark.parametrize(("status", "substatus"), [(408, 0), (410, 0), (410, 1002), (500, 0), (503, 0), (502, 0)])
async def test_write_that_ends_so_is_in_doubt_and_sent_once(
    store: CosmosStateStore, account: CosmosAccount, status: int, substatus: int
) -> None:
    await create(store)
    account.faults.answers = [(status, substatus)]
    account.requests.clear()
    with pytest.raises(StoreUnavailable) as lost:
        await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
    assert not lost.value.definite
    assert len([path for _, _, path in account.requests if path.endswith("/docs")]) == 1
    account.faults.answers = [(status, substatus)]
    assert await store.versions(TALK) == Versions(1, 1)  # a read is asked again


async def test_cut_connection_sends_no_write_again(account: CosmosAccount) -> None:
    """Neither aiohttp, which sends a PUT again, nor Azure's client, which calls it a request that was never sent."""
    (place,) = account.places.values()
    async with FaultProxy(("127.0.0.1", place.port)) as proxy:
        place.url = f"http://{proxy.host}:{proxy.port}/"
        store = CosmosStateStore(options(place.url, account))
        await create(store)
        for step in range(2, 6):
            proxy.lose_next_reply()
            before = len(account.requests)
            with pytest.raises(StoreUnavailable) as lost:
                await store.write(
                    TALK, b"x", expect=Versions(step - 1, step - 1), new=Versions(step, step), pending=False
                )
            assert not lost.value.definite
            assert len([path for _, _, path in account.requests[before:] if path.endswith("/docs")]) == 1
            assert await store.versions(TALK) == Versions(step, step)
        await store.close()


async def test_silence_ends_by_the_deadline_and_leaves_a_write_in_doubt(account: CosmosAccount) -> None:
    (place,) = account.places.values()
    async with FaultProxy(("127.0.0.1", place.port)) as proxy:
        place.url = f"http://{proxy.host}:{proxy.port}/"
        store = CosmosStateStore(options(place.url, account, deadline_s=0.5))
        await create(store)
        proxy.blackhole()
        with pytest.raises(StoreUnavailable, match=r"within 0.5 s") as lost:
            await store.write(TALK, b"two", expect=Versions(1, 1), new=Versions(2, 2), pending=False)
        assert not lost.value.definite
        await proxy.heal()
        async with asyncio.timeout(20):
            while await store.versions(TALK) != Versions(2, 2):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await store.close()


# --------------------------------------------------------------------------------------------------------- what is told


async def test_missing_container_is_named_with_the_way_out(account: CosmosAccount) -> None:
    store = CosmosStateStore(options(account.url, account, container="nowhere"))
    with pytest.raises(StoreUnavailable, match=r"container memory/nowhere not found in http.*: create it") as told:
        await store.ping()
    assert told.value.definite
    await store.close()


@pytest.mark.parametrize("key", ["d3JvbmcgYnV0IGxvbmcgZW5vdWdo", "no base64!"])
async def test_wrong_key_is_told_so_and_not_shown(account: CosmosAccount, key: str) -> None:
    store = CosmosStateStore(replace(options(account.url, account), key=key))
    with pytest.raises(StoreUnavailable, match=r"key.*check keyFrom") as told:
        await store.ping()
    assert told.value.definite
    assert key not in str(told.value)
    await store.close()


async def test_account_of_another_kind_is_refused_before_anything_is_written() -> None:
    async with CosmosAccount("East US", "West US", every_region_writes=True) as account:
        with_container(account)
        store = CosmosStateStore(options(account.url, account))
        with pytest.raises(StoreUnavailable, match="multiRegionWrites: true"):
            await create(store)
        assert not [path for _, _, path in account.requests if "/docs" in path]
        await store.close()


async def test_certificates_are_verified_and_given(tmp_path: Path) -> None:
    """Azure's client would trust any host that calls itself 127.0.0.1."""
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(authority.issue(x509.IPAddress(ip_address("127.0.0.1"))))
    context.verify_mode = ssl.CERT_REQUIRED
    own = authority.issue(x509.DNSName("client.example"))
    with Answers(context).running() as service:
        asked = CosmosOptions(service.url, "a2V5", "d", "c", ca_file=str(authority.file))
        stores = [
            CosmosStateStore(replace(asked, ca_file="")),
            CosmosStateStore(replace(asked, cert_file=str(own), key_file=str(own))),
        ]
        with pytest.raises(StoreUnavailable, match="Certificate") as untrusted:
            await stores[0].ping()
        assert untrusted.value.definite
        assert service.requests == []
        with pytest.raises(StoreUnavailable, match="default consistency is unknown"):
            await stores[1].ping()
        assert service.requests == ["GET /"]
        for store in stores:
            await store.close()
