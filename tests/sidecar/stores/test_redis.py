import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from agentmemory_sidecar.stores.embedded.valkey import EmbeddedValkey
from agentmemory_sidecar.stores.protocols import Conversation, StoreUnavailable
from agentmemory_sidecar.stores.redis import RedisHotStore, RedisOptions
from tests.sidecar.stores.hot_conformance import COPY, HERE, HotConformance, begun, claim, committed, opened
from tests.sidecar.stores.hot_servers import DebianRedis, HotServer, ValkeyCluster


class TestValkey(HotConformance):
    @pytest.fixture
    def server(self, valkey: EmbeddedValkey) -> HotServer:
        return HotServer(RedisOptions(urls=(valkey.url,), timeout_s=10), lambda: [Redis.from_url(valkey.url)])


class TestCluster(HotConformance):
    @pytest.fixture
    def server(self, valkey_cluster: ValkeyCluster) -> HotServer:
        return HotServer(valkey_cluster.options, valkey_cluster.admins)


class TestRedisWithTlsAndAcl(HotConformance):
    @pytest.fixture
    def server(self, debian_redis: DebianRedis) -> HotServer:
        return HotServer(debian_redis.options(), lambda: [debian_redis.admin()])

    async def test_a_rotated_password_serves_new_connections(self, debian_redis: DebianRedis) -> None:
        async with opened(debian_redis.options()) as hot, debian_redis.admin() as admin:
            await hot.ping()
            await admin.acl_setuser("sidecar", enabled=True, passwords=["+second"])
            try:
                hot.update_credentials("sidecar", "second")
                await hot.ping()
                await _disconnect_others(admin)
                await hot.ping()
                await admin.acl_setuser(
                    "sidecar", enabled=True, passwords=["-first"]
                )  # closes no connection of the second's
                await hot.ping()
                hot.update_credentials("sidecar", "first")
                await hot.ping()  # open connections stay as they are
                await _disconnect_others(admin)
                with pytest.raises(StoreUnavailable, match="AuthenticationError") as caught:
                    await hot.ping()
                assert caught.value.definite
            finally:
                await admin.acl_setuser("sidecar", enabled=True, passwords=["+first", "-second"])

    async def test_a_missing_right_is_named(self, debian_redis: DebianRedis) -> None:
        async with opened(debian_redis.options(username="short")) as hot:
            with pytest.raises(StoreUnavailable, match="can't run this command"):
                await hot.begin(HERE, claim("1"))

    async def test_an_unknown_authority_is_refused(self, debian_redis: DebianRedis) -> None:
        async with opened(replace(debian_redis.options(), tls_ca_file="")) as hot:
            with pytest.raises(StoreUnavailable, match="certificate") as caught:
                await hot.ping()
            assert caught.value.definite


async def _disconnect_others(admin: Redis) -> None:
    """Until the server has closed all connections but this one, and this process has heard of it."""
    await admin.client_kill_filter(_type="normal", skipme=True)
    while len(await admin.client_list()) > 1:
        pass
    await asyncio.sleep(0.05)


async def test_a_forgotten_script_is_sent_again(valkey_url: str) -> None:
    async with opened(RedisOptions(urls=(valkey_url,))) as hot, Redis.from_url(valkey_url) as admin:
        await committed(hot)
        await admin.script_flush()
        assert (await begun(hot, claim("1"))).copy == COPY


async def test_a_full_server_refuses_steps_and_still_frees_locks(valkey_url: str) -> None:
    async with opened(RedisOptions(urls=(valkey_url,))) as hot, Redis.from_url(valkey_url) as admin:
        await committed(hot)
        await begun(hot, claim("1"))
        await admin.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailable, match="OOM") as caught:
                await hot.begin(Conversation("acme", "s2"), claim("1"))
            assert caught.value.definite
            assert await hot.commit(HERE, claim("1").token, COPY, {"k": b"e"})
        finally:
            await admin.config_set("maxmemory", "0")
        assert (await begun(hot, claim("2", "r2"))).copy is None
        await admin.config_set("maxmemory", "1")
        try:
            assert await hot.release(HERE, claim("2", "r2").token, intact=False, note=b"n")
        finally:
            await admin.config_set("maxmemory", "0")
        await begun(hot, claim("3"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RedisOptions(urls=()), "name at least one URL"),
        (RedisOptions(urls=("redis://a", "redis://b")), "set `cluster`"),
        (RedisOptions(urls=("unix:///tmp/x",), cluster=True), "redis:// or rediss://"),
        (RedisOptions(urls=("http://a",)), "redis://"),
    ],
)
async def test_options_that_cannot_be(options: RedisOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisHotStore(options)


def test_options_hide_passwords() -> None:
    assert "secret" not in repr(RedisOptions(urls=("redis://:secret@a",), password="secret"))
