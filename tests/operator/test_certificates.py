"""The authority and the leaf over years, with leaders that die, replicas that lag and API servers that are behind."""

import base64
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.verification import PolicyBuilder, VerificationError
from cryptography.x509.verification import Store as Trusted

from agentmemory_operator.certificates import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    RETIRED_UNTIL,
    SETTLE,
    Action,
    Held,
    Publish,
    Store,
    decide,
    dns_names,
    dumped,
    keep,
    loaded,
)
from agentmemory_operator.kube import MUTATING_WEBHOOKS, SECRET, Cluster, Conflict
from agentmemory_operator.settings import Settings

NAMES = dns_names(Settings())
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class World:
    """A Secret and a configuration with two entries, and who looks at them."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = None
        self.published = [b"", b""]
        self.now = BEGIN
        self._read: tuple[object, Held | None] = (None, None)

    @property
    def found(self) -> Held | None:
        """What the Secret holds, read once for each of its versions."""
        version = repr(self.secret)
        if self._read[0] != version:
            self._read = version, loaded(self.secret)
        return self._read[1]

    @property
    def held(self) -> Held:
        assert self.found is not None
        return self.found

    def actions(self) -> list[Action]:
        return decide(self.found, self.published, NAMES, self.now)

    def do(self, action: Action) -> None:
        if isinstance(action, Publish):
            self.published = [action.bundle, action.bundle]
            return
        until = action.held.retired_until
        annotations = {RETIRED_UNTIL: until.isoformat()} if until else {}
        self.secret = {"metadata": {"annotations": annotations}, "data": dumped(action.held)}

    def look(self, at: datetime | None = None) -> list[str]:
        """One look of a leader that lives; what it did."""
        self.now = at or self.now
        done = self.actions()
        for action in done:
            self.do(action)
        return [type(action).__name__ for action in done]

    def settle(self, at: datetime | None = None) -> None:
        self.now = at or self.now
        while self.look():
            pass


def accepted(bundle: bytes, leaf: x509.Certificate, now: datetime) -> bool:
    """Whether a client that trusts ``bundle`` takes a server with ``leaf`` for the webhook."""
    try:
        store = Trusted(x509.load_pem_x509_certificates(bundle))
        PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(NAMES[0])).verify(leaf, [])
    except (VerificationError, ValueError):
        return False
    return True


@pytest.mark.parametrize("seed", [1, 2])
def test_over_years_no_call_meets_an_authority_that_it_does_not_know(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    world.settle()
    # What each has seen: two API servers up to five minutes late, a replica up to two hours, and one that is stuck.
    servers = [(world.now, world.published[0])] * 2
    replica, stuck = (world.now, world.held.leaf.certificate), world.held.leaf.certificate
    authorities: set[bytes] = set()
    while world.now < BEGIN + 700 * DAY:
        world.now += chance.choice((MINUTE, 10 * MINUTE, HOUR, 8 * HOUR, 16 * HOUR))
        for action in world.actions():
            if chance.random() < 0.3:
                break  # the leader died here
            world.do(action)
        for index, (seen, _) in enumerate(servers):
            if chance.random() < 0.5 or world.now - seen > 5 * MINUTE:
                servers[index] = world.now, world.published[0]
        held = world.held
        if chance.random() < 0.3 or world.now - replica[0] > 2 * HOUR:
            replica = world.now, held.leaf.certificate
        if world.now >= stuck.not_valid_after_utc and chance.random() < 0.01:
            stuck = held.leaf.certificate  # somebody restarts it after all
        authorities.add(held.authority.certificate.fingerprint(hashes.SHA256()))
        assert world.now < replica[1].not_valid_after_utc
        for bundle in {bundle for _, bundle in servers}:
            assert accepted(bundle, replica[1], world.now), world.now
            # A replica with a leaf that has ended is not ready, and so is not called.
            assert accepted(bundle, stuck, world.now) or world.now >= stuck.not_valid_after_utc, world.now
    assert len(authorities) == 3
    assert len(x509.load_pem_x509_certificates(world.published[0])) == 1


def test_the_first_look_makes_everything() -> None:
    world = World()
    assert world.look() == ["Store", "Publish"]
    assert world.look() == []
    assert accepted(world.published[1], world.held.leaf.certificate, world.now)
    assert world.held.leaf.certificate.not_valid_after_utc == BEGIN + LEAF_LIFE
    assert world.held.authority.certificate.not_valid_after_utc == BEGIN + AUTHORITY_LIFE


def test_a_leaf_is_good_for_the_services_names_only() -> None:
    world = World()
    world.settle()
    found = world.held.leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(found.get_values_for_type(x509.DNSName)) == {
        "agentmemory-webhook.agentmemory-system.svc",
        "agentmemory-webhook.agentmemory-system.svc.cluster.local",
        "agentmemory-webhook.agentmemory-system",
    }


def test_a_leaf_is_renewed_after_two_thirds_of_its_life_and_nothing_else() -> None:
    world = World()
    world.settle()
    first, bundle = world.held, world.published
    assert world.look(BEGIN + 20 * DAY - MINUTE) == []
    assert world.look(BEGIN + 20 * DAY) == ["Store"]
    assert world.held.leaf.certificate != first.leaf.certificate
    assert world.held.authority.certificate == first.authority.certificate
    assert world.published == bundle


def test_an_authority_is_known_before_it_signs_and_until_its_last_leaf_has_ended() -> None:
    world = World()
    world.settle()
    world.settle(BEGIN + 243 * DAY)  # a leaf is renewed on the way
    before = world.held
    renewal = BEGIN + AUTHORITY_LIFE * 2 / 3
    assert world.look(renewal) == ["Store", "Publish"]
    assert world.held.next is not None
    assert world.held.leaf.certificate == before.leaf.certificate
    assert world.look(renewal + SETTLE - MINUTE) == []
    assert world.look(renewal + SETTLE) == ["Store"]
    after = world.held
    assert (after.next, after.retired) == (None, (before.authority.certificate,))
    assert after.retired_until == before.leaf.certificate.not_valid_after_utc
    assert accepted(world.published[0], before.leaf.certificate, world.now)
    assert accepted(world.published[0], after.leaf.certificate, world.now)
    world.settle(after.retired_until - MINUTE)
    assert accepted(world.published[0], before.leaf.certificate, world.now)
    world.settle(after.retired_until)
    assert not accepted(world.published[0], before.leaf.certificate, world.now - MINUTE)
    assert accepted(world.published[0], world.held.leaf.certificate, world.now)


def test_an_authority_that_is_not_published_everywhere_does_not_sign() -> None:
    world = World()
    world.settle()
    world.settle(BEGIN + 243 * DAY)
    (store, publish) = decide(world.held, world.published, NAMES, BEGIN + 250 * DAY)
    assert isinstance(store, Store)
    assert isinstance(publish, Publish)
    for published in ([publish.bundle, world.published[0]], None):
        later = decide(store.held, published, NAMES, BEGIN + 255 * DAY)
        assert not any(isinstance(action, Store) and action.held.next is None for action in later)


@pytest.mark.parametrize("published", [[b"", b""], [b"other", b""]])
def test_a_bundle_that_somebody_changed_is_put_back_before_anything_else(published: list[bytes]) -> None:
    world = World()
    world.settle()
    world.published = published
    assert world.look(BEGIN + 20 * DAY) == ["Publish"]
    assert world.look() == ["Store"]


def test_a_service_with_another_name_gets_a_leaf_of_its_own() -> None:
    world = World()
    world.settle()
    (action,) = decide(world.held, world.published, ["other.agents.svc"], world.now)
    assert isinstance(action, Store)
    assert action.held.authority.certificate == world.held.authority.certificate
    assert action.held.leaf.certificate != world.held.leaf.certificate


@pytest.mark.parametrize("damage", ["ca.key", "tls.crt", "tls.key", "ca.crt"])
@pytest.mark.parametrize("text", ["", "bm90IFBFTQ==", "***"])
def test_a_secret_that_cannot_be_used_is_made_anew_and_the_authority_before_stays_known(damage: str, text: str) -> None:
    world = World()
    world.settle()
    served = world.held.leaf.certificate
    assert world.secret is not None
    world.secret["data"][damage] = text
    assert loaded(world.secret) is None
    world.look()
    assert accepted(world.published[0], served, world.now)
    assert accepted(world.published[0], world.held.leaf.certificate, world.now)
    world.settle(BEGIN + LEAF_LIFE)
    assert len(x509.load_pem_x509_certificates(world.published[0])) == 1


def test_an_operator_that_was_away_for_years_begins_anew() -> None:
    world = World()
    world.settle()
    assert world.look(BEGIN + 3 * AUTHORITY_LIFE) == ["Store", "Publish"]
    assert accepted(world.published[0], world.held.leaf.certificate, world.now)
    assert world.held.retired == ()


def test_a_next_authority_takes_over_where_the_one_before_has_ended() -> None:
    world = World()
    world.settle()
    world.look(BEGIN + 250 * DAY)
    world.settle(BEGIN + 370 * DAY)
    assert accepted(world.published[0], world.held.leaf.certificate, world.now)


def test_keys_that_are_not_of_their_certificates_are_not_taken() -> None:
    one, other = World(), World()
    one.settle()
    other.settle()
    assert one.secret is not None
    assert other.secret is not None
    one.secret["data"]["ca.key"] = other.secret["data"]["ca.key"]
    assert loaded(one.secret) is None


# ------------------------------------------------------------------------------------------------- on a real API server


def configuration(name: str, namespace: str) -> dict[str, Any]:
    """Two entries that no pod is ever sent to: their namespace selectors match nothing."""
    service = {"namespace": namespace, "name": "agentmemory-webhook", "path": "/inject"}
    entries = [
        {
            "name": f"{entry}.agentmemory.io",
            "clientConfig": {"service": service},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "none"}},
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        for entry in ("pods", "namespaces")
    ]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": entries,
    }


@pytest.mark.cluster
async def test_the_leader_keeps_secret_and_configuration(kube: Cluster, namespace: str) -> None:
    name = f"agentmemory-test-{uuid4().hex[:8]}"
    settings = Settings.model_validate({"operatorNamespace": namespace, "webhook": {"configuration": name}})
    await kube.create(configuration(name, namespace))
    try:
        now = datetime.now(UTC)
        assert len(await keep(kube, settings, now)) == 2
        assert await keep(kube, settings, now) == []
        found = await kube.get(MUTATING_WEBHOOKS, "", name)
        assert found is not None
        bundles = {entry["clientConfig"]["caBundle"] for entry in found["webhooks"]}
        held = loaded(await kube.get(SECRET, namespace, settings.webhook.secret))
        assert held is not None
        assert bundles == {base64.b64encode(held.bundle).decode()}
        assert len(await keep(kube, settings, now + 21 * DAY)) == 1
        assert await keep(kube, settings, now + 21 * DAY) == []
    finally:
        await kube.delete(MUTATING_WEBHOOKS, "", name)


@pytest.mark.cluster
async def test_a_leader_that_lost_its_lease_undoes_nothing(kube: Cluster, namespace: str) -> None:
    class Late(Cluster):
        """A client whose reads are from before the new leader's write."""

        stale: Any = None

        async def get(self, kind: Any, namespace: str, name: str) -> Any:
            return self.stale if kind is SECRET else await super().get(kind, namespace, name)

    settings = Settings.model_validate({"operatorNamespace": namespace, "webhook": {"configuration": "none"}})
    now = datetime.now(UTC)
    await keep(kube, settings, now)
    late = Late(kube._client)
    late.stale = await kube.get(SECRET, namespace, settings.webhook.secret)
    await keep(kube, settings, now + 20 * DAY)
    with pytest.raises(Conflict):
        await keep(late, settings, now + 21 * DAY)


@pytest.mark.cluster
async def test_certificates_of_others_are_left_alone(kube: Cluster, namespace: str) -> None:
    settings = Settings.model_validate({"operatorNamespace": namespace, "webhook": {"certificates": "CertManager"}})
    assert await keep(kube, settings) == []
    assert await kube.get(SECRET, namespace, settings.webhook.secret) is None
