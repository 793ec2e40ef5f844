"""The server, asked over TLS as the API server asks."""

import asyncio
import json
import logging
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonpatch
import pytest
from cryptography.hazmat.primitives import hashes

from agentmemory_operator.certificates import Held, Publish, Store, decide
from agentmemory_operator.settings import SettingsError
from agentmemory_operator.webhook import server
from agentmemory_operator.webhook.server import BODY_LIMIT, Webhook
from tests.operator.inject import goldens
from tests.operator.webhook.asking import NAME, patch_of, review, running, until, write_pair
from tests.operator.webhook.test_tls import held

POD = goldens.pod("plain")


async def test_a_pod_is_injected_and_another_refused(tmp_path: Path) -> None:
    own = held()
    async with running(tmp_path, own) as webhook:
        status, answer = await webhook.ask(review(POD), own.bundle)
        assert status == 200
        changed = jsonpatch.apply_patch(POD, patch_of(answer))
        assert changed["spec"]["initContainers"][0]["name"] == "agentmemory"
        _, again = await webhook.ask(review(changed), own.bundle)
        assert again["response"]["auditAnnotations"] == {"decision": "complete"}
        _, refusal = await webhook.ask(review(goldens.pod("refused-port")), own.bundle)
        assert refusal["response"]["allowed"] is False
        counted = await webhook.metrics()
    assert counted["agentmemory_webhook_requests_total"] == 3
    assert counted["agentmemory_webhook_injected_total"] == 1
    assert counted['agentmemory_webhook_skipped_total{reason="complete"}'] == 1
    assert counted['agentmemory_webhook_refused_total{reason="port_taken"}'] == 1
    assert counted["agentmemory_webhook_seconds_count"] == 3
    assert counted["agentmemory_webhook_certificate_not_after_seconds"] > datetime.now(UTC).timestamp()


async def test_a_dry_run_is_answered_the_same(tmp_path: Path) -> None:
    own = held()
    async with running(tmp_path, own) as webhook:
        _, wet = await webhook.ask(review(POD, uid="u"), own.bundle)
        _, dry = await webhook.ask(review(POD, uid="u", dryRun=True), own.bundle)
    assert dry == wet


async def test_what_is_no_review_is_an_http_error_so_that_the_failure_policy_decides(tmp_path: Path) -> None:
    own = held()
    async with running(tmp_path, own) as webhook:
        assert await webhook.ask(b"{", own.bundle) == (400, "the body is not JSON")
        status, _ = await webhook.ask(b"x" * (BODY_LIMIT + 1), own.bundle)
        assert status == 413
        counted = await webhook.metrics()
    assert counted['agentmemory_webhook_failed_total{status="400"}'] == 1
    assert counted['agentmemory_webhook_failed_total{status="413"}'] == 1


async def test_a_body_at_the_limit_is_read(tmp_path: Path) -> None:
    own, body = held(), review(POD)
    padding = BODY_LIMIT - len(json.dumps(body | {"padding": ""}))
    async with running(tmp_path, own) as webhook:
        status, _ = await webhook.ask(body | {"padding": "x" * padding}, own.bundle)
    assert status == 200


async def test_an_error_of_ours_is_an_http_error_and_says_nothing_of_the_pod(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = held()
    # A pod that no API server would send: its schema allows no such container.
    broken = review({"metadata": {}, "spec": {"containers": ["s3cret"]}})
    async with running(tmp_path, own) as webhook:
        status, text = await webhook.ask(broken, own.bundle)
    assert status == 500
    assert "AttributeError" in text
    assert "s3cret" not in text + caplog.text
    assert any("a request failed" in record.message for record in caplog.records)


async def test_it_is_ready_as_soon_as_it_has_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_EVERY_S", 0.05)
    own = held()
    async with running(tmp_path) as webhook:
        status, state = await webhook.state()
        assert (status, state["ready"], state["certificate"]) == (503, False, "")
        assert await webhook.probe("/livez") == (200, "ok")
        write_pair(webhook.certificates, own)

        async def ready() -> bool:
            return (await webhook.state())[1]["ready"] is True

        await until(ready)
        assert (await webhook.ask(review(POD), own.bundle))[0] == 200


async def test_it_is_not_ready_with_a_certificate_that_has_ended(tmp_path: Path) -> None:
    old = held(datetime.now(UTC) - timedelta(days=31))
    async with running(tmp_path, old) as webhook:
        status, state = await webhook.state()
    assert status == 503
    assert "ended" in state["problem"]


async def test_new_settings_count_at_once_and_bad_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "LOOK_EVERY_S", 0.05)
    caplog.set_level(logging.INFO)
    own = held()

    async with running(tmp_path, own) as webhook:

        async def is_image(image: str) -> bool:
            _, answer = await webhook.ask(review(POD), own.bundle)
            return bool(patch_of(answer)[0]["value"][0]["image"] == image)

        async def is_said() -> bool:
            return "stay in force" in caplog.text

        assert await is_image("agentmemory-sidecar:0.1.0")
        webhook.settings.write_text("images: {sidecar: example/sidecar:2}")
        await until(lambda: is_image("example/sidecar:2"))
        webhook.settings.write_text("images: {sidecars: example/sidecar:3}")
        await until(is_said)
        assert await is_image("example/sidecar:2")
        assert (await webhook.metrics())["agentmemory_webhook_settings_stale"] == 1
        webhook.settings.write_text("images: {sidecar: example/sidecar:4}")
        await until(lambda: is_image("example/sidecar:4"))
        assert (await webhook.metrics())["agentmemory_webhook_settings_stale"] == 0


def test_settings_that_cannot_be_used_are_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("nonsense: 1")
    with pytest.raises(SettingsError, match="nonsense"):
        Webhook(tmp_path / "settings.yaml", tmp_path)


async def test_while_it_stops_it_answers_and_closes_connections(tmp_path: Path) -> None:
    own = held()
    async with running(tmp_path, own, linger_s=2) as webhook:
        # One connection that was there before, with half a request on it, and one that comes after.
        with closing(webhook.connection(own.bundle)) as early:
            assert (await asyncio.to_thread(early.ask, review(POD)))[0] == 200
            body = json.dumps(review(POD)).encode()
            early.putrequest("POST", "/inject")
            early.putheader("Content-Length", str(len(body)))
            early.endheaders(body[:10])
            webhook.stop.set()

            async def stopping() -> bool:
                return bool((await webhook.state())[1]["problem"] == "stopping")

            await until(stopping)
            with closing(webhook.connection(own.bundle)) as late:
                assert (await asyncio.to_thread(late.ask, review(POD)))[0] == 200
                assert late.closes
            early.send(body[10:])
            answer = await asyncio.to_thread(early.getresponse)
            assert (answer.status, answer.will_close) == (200, True)
            answer.read()


async def test_certificates_rotate_under_load_with_no_failed_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two leaves and an authority are renewed and the old one dropped, while clients ask all the time.

    The years between are in the certificates: the first ones were made long ago, as far as the leader knew. Every client
    makes a new connection for each call, with the bundle that is published at that moment, as an API server that has
    just seen the change does; one keeps its connection, as an API server that was there before does.
    """
    monkeypatch.setattr(server, "LOOK_EVERY_S", 0.02)
    now, day = datetime.now(UTC), timedelta(days=1)
    state = World()
    state.look(now - 250 * day)
    state.look(now - 21 * day)
    first, served, failures, calls = state.held, set[str](), list[str](), list[int]()
    done = asyncio.Event()

    async def ask_anew() -> None:
        while not done.is_set():
            try:
                status, _ = await webhook.ask(review(POD), state.published[0])
            except OSError as error:
                failures.append(repr(error))
            else:
                calls.append(status)

    async def ask_on_one() -> None:
        with closing(webhook.connection(first.bundle)) as connection:
            while not done.is_set():
                status, _ = await asyncio.to_thread(connection.ask, review(POD))
                calls.append(status)
                await asyncio.sleep(0.01)

    async def at_least(more: int) -> None:
        wanted = len(calls) + more

        async def reached() -> bool:
            return len(calls) >= wanted

        await until(reached)

    async def is_served() -> bool:
        return bool((await webhook.state())[1]["certificate"] == state.fingerprint)

    async with running(tmp_path, first) as webhook, asyncio.TaskGroup() as group:
        for each in (ask_anew, ask_anew, ask_on_one):
            group.create_task(each())
        await at_least(5)
        # The authority is due, then its leaf; the next one is published, takes over, and in a month it stands alone.
        for moment in (now - day, now - day, now, now, now + 10 * day, now + 31 * day):
            state.look(moment)
            write_pair(webhook.certificates, state.held)
            await until(is_served)
            served.add(state.fingerprint)
            await at_least(5)
        done.set()
    assert failures == []
    assert set(calls) == {200}
    assert len(served) >= 3
    assert state.held.authority.certificate != first.authority.certificate
    assert state.held.retired == ()


class World:
    """The Secret and the configuration, as the leader of the moment left them."""

    def __init__(self) -> None:
        self._held: Held | None = None
        self.published = [b""]

    @property
    def held(self) -> Held:
        assert self._held is not None
        return self._held

    @property
    def fingerprint(self) -> str:
        return self.held.leaf.certificate.fingerprint(hashes.SHA256()).hex()

    def look(self, now: datetime) -> None:
        for action in decide(self._held, self.published, [NAME], now):
            if isinstance(action, Store):
                self._held = action.held
            else:
                assert isinstance(action, Publish)
                self.published = [action.bundle]
