"""From whatever state, the planner brings a cluster to the wanted shape, and never gives up a slot's last copy."""

import dataclasses

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.redis.rolling import step_down
from agentmemory_operator.plan.redis.topology import decide
from agentmemory_operator.plan.redis.values import Cluster, Failover, Forget, Meet, Node, Peer, Pod, Replicate, Shape
from tests.operator.plan.redis.model import SAMPLES, Model, Refused


def formed(replicas: int = 1) -> Model:
    model = Model(Shape(3, replicas))
    model.kubernetes()
    model.settle()
    model.write()
    assert model.served == SAMPLES
    return model


def check(model: Model) -> None:
    """Whole, of the wanted shape, with everything that can still be there, and nothing more to do."""
    assert not model.lost
    primaries = [server for server in model.pods.values() if not server.primary]
    assert len(primaries) == model.shape.shards
    assert {server.shard for server in primaries} == set(range(model.shape.shards))
    assert sum(len(server.slots) for server in primaries) == 16384
    assert max(len(s.slots) for s in primaries) - min(len(s.slots) for s in primaries) <= 1
    assert all(server.linked for server in model.pods.values() if server.primary)
    assert model.content <= model.served
    assert model.step() is None


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("stop"), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 9)),
        st.tuples(st.just("restart all"), st.just(0)),
        st.tuples(st.just("outdate"), st.integers(0, 9)),
        st.tuples(st.just("shards"), st.integers(3, 5)),
        st.tuples(st.sampled_from(["open", "sent"]), st.integers(0, 9)),
        st.tuples(st.just("looks"), st.integers(1, 6)),
        st.tuples(st.just("write"), st.just(0)),
    ),
    max_size=10,
)


def happen(model: Model, event: str, number: int) -> None:
    servers = list(model.pods.values())
    server = servers[number % len(servers)]
    match event:
        case "stop":
            model.stop(server)
        case "restart":
            model.stop(server)
            model.start(server)
        case "lose":
            model.lose(server)
        case "restart all":
            for each in servers:
                model.stop(each)
                model.start(each)
        case "outdate":
            server.outdated = True
        case "shards":
            model.shape = Shape(number, model.shape.replicas)
            model.kubernetes()
        case "open" | "sent":
            primaries = [s for s in servers if s.running and not s.primary and s.slots]
            if len(primaries) > 1:
                source, target = primaries[number % len(primaries)], primaries[(number + 1) % len(primaries)]
                model.move(source, target, set(sorted(source.slots)[:600]), until=event)
        case "looks":
            for _ in range(number):
                model.tick()
                model.step()
        case "write":
            model.write()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS, replicas=st.integers(0, 2))
@example(events=[("sent", 1), ("lose", 4)], replicas=1)
def test_converges_from_whatever_happened_and_loses_no_last_copy(events: list[tuple[str, int]], replicas: int) -> None:
    model = formed(replicas)
    for event, number in events:
        try:
            happen(model, event, number)
        except Refused:
            continue
        assert not model.lost
    model.kubernetes()
    model.settle(200)
    check(model)


def test_a_new_cluster_forms() -> None:
    model = formed()
    check(model)
    assert not any("FAILOVER" in line for line in model.done)


def test_scales_out_and_in() -> None:
    model = formed()
    for shards in (5, 3):
        model.shape = Shape(shards, 1)
        model.kubernetes()
        model.settle(200)
        check(model)
        assert model.content == SAMPLES


def test_never_asks_for_what_would_empty_a_node() -> None:
    model = formed()
    for server in list(model.pods.values())[:3]:
        model.lose(server)
    model.settle(200)
    check(model)
    assert not any(word in line for line in model.done for word in ("FLUSH", "RESET"))


# ---------------------------------------------------------------------------------------------------------- single steps


def node(ident: str, address: str, peers: dict[str, Peer], **more: object) -> Node:
    return dataclasses.replace(Node(ident, peers), **more)  # type: ignore[arg-type]


def three() -> dict[str, Peer]:
    thirds = ((0, 5461), (5462, 10922), (10923, 16383))
    peers = {
        f"p{i}": Peer(f"p{i}", f"10.0.0.{i}", f"r-{i}-0.x", frozenset({"master"}), ranges=(thirds[i],))
        for i in range(3)
    }
    replicas = {
        f"s{i}": Peer(f"s{i}", f"10.0.1.{i}", f"r-{i}-1.x", frozenset({"slave"}), primary=f"p{i}") for i in range(3)
    }
    return peers | replicas


def cluster(peers: dict[str, Peer], away: frozenset[str] = frozenset(), **waited: float) -> Cluster:
    pods = []
    for ident, peer in peers.items():
        shard, ordinal = int(ident[1]), 0 if ident[0] == "p" else 1
        known = None if ident in away else Node(ident, peers, offset=10, keys=5)
        pods.append(Pod(f"r-{shard}-{ordinal}", shard, ordinal, "", peer.address if known else "", node=known))
    return Cluster("east", "ns", tuple(pods), 6, waited)


SHAPE = Shape(3, 1)


def test_nothing_to_do_is_nothing_done() -> None:
    assert decide(cluster(three()), SHAPE) is None


def test_one_node_tells_the_others_their_new_addresses() -> None:
    seen = cluster(three())
    moved = tuple(dataclasses.replace(pod, address=f"10.9.{n}.1") for n, pod in enumerate(seen.pods))
    decision = decide(dataclasses.replace(seen, pods=moved), SHAPE)
    assert decision is not None
    (action,) = decision.actions
    assert isinstance(action, Meet)
    assert len(action.addresses) == 5
    # Gossip did not do: everybody tells everybody.
    later = dataclasses.replace(seen, pods=moved, waited={"apart": 11.0})
    decision = decide(later, SHAPE)
    assert decision is not None
    assert len(decision.actions) == 6


def test_an_election_is_waited_for_and_then_helped() -> None:
    symptom = {"election:p0": 1.0}
    decision = decide(cluster(three(), frozenset({"p0"}), **symptom), SHAPE)
    assert decision is not None
    assert (decision.actions, decision.reason, decision.serving) == ((), Reason.HEALING, False)
    decision = decide(cluster(three(), frozenset({"p0"}), **{"election:p0": 31.0}), SHAPE)
    assert decision is not None
    (action,) = decision.actions
    assert isinstance(action, Failover)
    assert (action.pod, action.how) == ("r-0-1", "FORCE")


def test_without_a_quorum_nothing_is_taken_over_from_who_may_come_back() -> None:
    decision = decide(cluster(three(), frozenset({"p0", "p1"}), **{"election:p0": 999.0}), SHAPE)
    assert decision is not None
    assert decision.reason is Reason.DATA_AT_RISK
    assert decision.actions == ()
    assert "PersistentVolumeClaim" in decision.message
    assert "r-0-0, r-1-0" in decision.message


def test_who_is_gone_for_good_is_forgotten_by_all_only_after_its_replica_leads() -> None:
    peers = three()
    gone = peers.pop("p0")
    heir = dataclasses.replace(peers["s0"], flags=frozenset({"master"}), primary="", ranges=gone.ranges, epoch=9)
    fresh = Peer("n0", "10.0.0.9", "r-0-0.x", frozenset({"master"}))
    known = {**peers, "s0": heir, "p0": dataclasses.replace(gone, ranges=()), "n0": fresh}
    pods = [
        Pod(
            f"r-{i[1]}-{0 if i[0] in 'pn' else 1}",
            int(i[1]),
            0 if i[0] in "pn" else 1,
            "",
            p.address,
            node=Node(i, known),
        )
        for i, p in known.items()
        if i != "p0"
    ]
    decision = decide(Cluster("east", "ns", tuple(pods), 6), SHAPE)
    assert decision is not None
    (action,) = decision.actions
    assert isinstance(action, Forget)
    assert (action.id, len(action.pods)) == ("p0", 6)
    # While any pod does not answer, the id may be its.
    hidden = [dataclasses.replace(pod, node=None) if pod.name == "r-2-1" else pod for pod in pods]
    decision = decide(Cluster("east", "ns", tuple(hidden), 6), SHAPE)
    assert decision is not None
    assert not any(isinstance(action, Forget) for action in decision.actions)


def test_a_replica_without_its_primary_is_pointed_there_again_but_not_while_it_is_copying() -> None:
    seen = cluster(three())

    def with_link(syncing: bool, waited: float) -> Cluster:
        pods = [
            dataclasses.replace(pod, node=dataclasses.replace(pod.node, link_up=False, syncing=syncing))
            if pod.name == "r-1-1" and pod.node
            else pod
            for pod in seen.pods
        ]
        return dataclasses.replace(seen, pods=tuple(pods), waited={"link:r-1-1": waited})

    decision = decide(with_link(False, 9.0), SHAPE)
    assert decision is not None
    (action,) = decision.actions
    assert isinstance(action, Replicate)
    assert (action.pod, action.primary) == ("r-1-1", "p1")
    for syncing, waited in ((True, 99.0), (False, 2.0)):
        decision = decide(with_link(syncing, waited), SHAPE)
        assert decision is not None
        assert decision.actions == ()


def test_a_replica_whose_copy_is_not_on_disk_is_waited_for_and_no_heir() -> None:
    """Killed before, it would come back with what it had before: as a primary that would win over the one with all."""
    pods = tuple(
        dataclasses.replace(
            pod,
            outdated=pod.name == "r-1-0",
            node=pod.node and dataclasses.replace(pod.node, durable=pod.name != "r-1-1"),
        )
        for pod in cluster(three()).pods
    )
    seen = dataclasses.replace(cluster(three()), pods=pods)
    decision = decide(seen, SHAPE)
    assert decision is not None
    assert (decision.reason, decision.actions) == (Reason.REPLICATING, ())
    heirs = [pod for pod in pods if pod.name == "r-1-1"]
    assert step_down(seen, pods[1], heirs, "") is None
