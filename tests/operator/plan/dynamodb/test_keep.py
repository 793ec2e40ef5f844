"""From any state of any tables: it ends, it ends well, and what is somebody else's is never touched."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator.conditions import Reason
from agentmemory_operator.plan.aws import CLUSTER, RESOURCE, TENANT, Owner, made_in
from agentmemory_operator.plan.dynamodb import values as v
from agentmemory_operator.plan.dynamodb.keep import keep
from agentmemory_operator.plan.dynamodb.leave import leave
from agentmemory_operator.plan.dynamodb.values import Place, Seen, Wanted
from agentmemory_operator.plan.values import Plan
from tests.operator.plan.dynamodb.model import REGIONS, Model

OWNER = Owner("acme", "one", "agents/support")
OURS = OWNER.tags(REGIONS)
RELEASED = {key: value for key, value in OURS.items() if key != CLUSTER}
ELSEWHERE = {**OURS, CLUSTER: "two"}
FOREIGN = ({**OURS, TENANT: "other"}, {**OURS, RESOURCE: "agents/other"}, {TENANT: "other"})

tables = st.builds(
    Seen,
    status=st.just(v.ACTIVE),
    arn=st.just("arn"),
    tags=st.sampled_from(({}, OURS, RELEASED, ELSEWHERE, *FOREIGN)),
    protection=st.booleans(),
    recovery=st.booleans(),
    expires=st.booleans(),
    unlike=st.sampled_from(((), (), ("its key is another",))),
)


@st.composite
def worlds(draw: st.DrawFn) -> Model:
    found = {region: draw(tables) for region in REGIONS if draw(st.booleans())}
    groups = [set(found)] if len(found) > 1 and draw(st.booleans()) else []
    failed = {region for region in REGIONS if region not in found and found and draw(st.integers(0, 5)) == 0}
    return Model(found, groups, {region for region in REGIONS if draw(st.integers(0, 5)) == 0}, failed)


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    count = draw(st.integers(1, 3))
    order = draw(st.permutations(REGIONS))
    return Wanted(
        "memory",
        tuple(Place(region, region) for region in order[:count]),
        OWNER,
        leaving=tuple(Place(region, region) for region in order[count:] if draw(st.booleans())),
        recovery=draw(st.booleans()),
        protection=draw(st.booleans()),
        tags=draw(st.sampled_from(({}, {"team": "a"}))),
        adopt=draw(st.booleans()),
    )


def run(wanted: Wanted, model: Model) -> Plan:
    for _ in range(30):
        plan = keep(wanted, model.seen(wanted), settled=False)
        if not plan.actions:
            return plan
        for action in plan.actions:
            assert isinstance(action, v.TableAction)
            model.act(action)
    raise AssertionError("does not end")


def untouchable(wanted: Wanted, table: Seen) -> bool:
    standing = table.standing(OWNER)
    return standing in ("foreign", "elsewhere") or (standing == "nobody's" and not wanted.adopt)


@given(wishes(), worlds())
def test_it_ends_and_what_is_somebody_elses_is_left_alone(wanted: Wanted, model: Model) -> None:
    before = dict(model.tables)
    groups = {region: set(model.group(region)) for region in before}
    run(wanted, model)
    for region, table in before.items():
        in_ours = any(before[member].standing(OWNER) == "ours" for member in groups[region])
        in_taken = any(not untouchable(wanted, before[member]) for member in groups[region])
        if in_ours and region in {place.aws_region for place in wanted.leaving}:
            continue  # a replica of our table, which the annotation names
        if untouchable(wanted, table) and not (in_taken and table.standing(OWNER) == "nobody's"):
            # Expiry is one setting for all replicas of a table, and so for one of ours.
            assert model.tables.get(region) in (table, replace(table, expires=True) if in_ours else table)
        if table.unlike and not in_taken:
            assert model.tables.get(region) == table


@given(wishes(), worlds())
def test_with_nobody_else_about_all_that_is_wanted_comes_to_be(wanted: Wanted, model: Model) -> None:
    if any(untouchable(wanted, table) or table.unlike for table in model.tables.values()) or model.away:
        return
    if len(model.tables) > 1 and not model.groups:
        return  # tables of one name that are no replicas: see below
    plan = run(wanted, model)
    regions = {place.aws_region for place in wanted.places}
    assert regions <= set(model.tables)
    for region in regions:
        table = model.tables[region]
        assert (table.recovery, table.protection) == (wanted.recovery, wanted.protection)
        assert table.tags.items() >= {**wanted.tags, TENANT: "acme", CLUSTER: "one"}.items()
    assert not {place.aws_region for place in wanted.leaving} & model.group(wanted.places[0].aws_region)
    assert plan.conditions[0].status is True
    assert plan.drift == ()


@given(wishes(), worlds())
def test_nothing_is_made_in_a_region_that_is_away(wanted: Wanted, model: Model) -> None:
    plan = run(wanted, model)  # the model refuses an action there
    if any(place.aws_region in model.away for place in wanted.places):
        assert plan.conditions[0].status is not True or plan.conditions[0].reason is Reason.MANAGED_ELSEWHERE


@given(wishes(), st.lists(st.integers(0, 8), max_size=8))
def test_killed_anywhere_it_comes_to_the_same(wanted: Wanted, stops: list[int]) -> None:
    whole, killed = Model(), Model()
    run(wanted, whole)
    for stop in stops:
        for action in keep(wanted, killed.seen(wanted), settled=False).actions[:stop]:
            assert isinstance(action, v.TableAction)
            killed.act(action)
    run(wanted, killed)
    assert killed.tables == whole.tables


@given(wishes(), worlds(), st.booleans())
def test_leaving_ends_and_deletes_just_what_was_made(wanted: Wanted, model: Model, delete: bool) -> None:
    model.away.clear()
    model.failed.clear()
    before, there = dict(model.tables), model.seen(wanted)
    looked_at = set(there)
    for _ in range(30):
        plan = leave(wanted, model.seen(wanted), delete=delete)
        if not plan.actions:
            break
        for action in plan.actions:
            assert isinstance(action, v.TableAction)
            model.act(action)
    else:
        raise AssertionError("does not end")
    for region, table in before.items():
        ours = region in looked_at and table.standing(OWNER) == "ours"
        if not ours:
            assert model.tables.get(region) == table
        elif not delete:
            assert model.tables[region].tags == {k: value for k, value in table.tags.items() if k != CLUSTER}
        elif region not in model.tables:
            assert region in made_in(table.tags)


@given(st.booleans())
def test_a_strong_table_comes_to_be_and_goes(witness: bool) -> None:
    places = tuple(Place(region, region) for region in (REGIONS[:2] if witness else REGIONS))
    wanted = Wanted("memory", places, OWNER, strong=True, witness=REGIONS[2] if witness else "")
    model = Model()
    assert run(wanted, model).conditions[0].status is True
    assert (set(model.tables), model.strong) == ({place.aws_region for place in places}, True)
    for _ in range(10):
        for action in leave(wanted, model.seen(wanted), delete=True).actions:
            assert isinstance(action, v.TableAction)
            model.act(action)
    assert model.tables == {}
