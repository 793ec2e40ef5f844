"""Connections to real servers with TLS."""

from pathlib import Path

import pytest
from redis.exceptions import RedisError

from agentmemory_operator.observe.redis_nodes import Access, NodeLinks, NodeRefused, NodeUnreachable
from tests.sidecar.stores.hot_servers import DebianRedis, ValkeyCluster, make_certificates


async def test_a_server_is_believed_only_with_our_authority_and_its_name(
    debian_redis: DebianRedis, tmp_path: Path
) -> None:
    links = NodeLinks()
    ca = (debian_redis.certificates / "ca.pem").read_text()
    make_certificates(tmp_path)
    for access, name, reason in (
        (Access("admin", ("all",), (tmp_path / "ca.pem").read_text()), "127.0.0.1", "CERTIFICATE_VERIFY_FAILED"),
        (Access("admin", ("all",), ca), "another.svc", "another.svc"),
    ):
        await links.keep(access, {"pod": ("127.0.0.1", name)})
        links["pod"]._port = debian_redis.port
        with pytest.raises(NodeUnreachable, match=reason):
            await links["pod"].ask(("PING",))
    await links.close()


async def test_a_pod_that_is_gone_is_unreachable() -> None:
    links = NodeLinks()
    with pytest.raises(NodeUnreachable, match="not there any more"):
        links["pod"]
    await links.keep(Access("", ("",)), {"pod": ("127.0.0.1", "")})
    links["pod"]._port = 1
    with pytest.raises(NodeUnreachable):
        await links["pod"].ask(("PING",))
    assert "pod" in links
    await links.keep(Access("", ("",)), {})
    assert "pod" not in links


async def test_an_older_password_is_tried_and_error_replies_are_values(valkey_cluster: ValkeyCluster) -> None:
    node = valkey_cluster.nodes[0]
    links = NodeLinks()
    await links.keep(Access("default", ("not yet", node.password)), {"pod": ("127.0.0.1", "")})
    link = links["pod"]
    assert node.port is not None
    link._port = node.port
    refusal, pong = await link.ask(("NO-SUCH-COMMAND",), ("PING",))
    assert isinstance(refusal, RedisError)
    assert pong == "PONG"
    with pytest.raises(NodeRefused, match="NO-SUCH-COMMAND"):
        await link.do(("NO-SUCH-COMMAND",))
    assert link.certificate == ""
    await links.close()
