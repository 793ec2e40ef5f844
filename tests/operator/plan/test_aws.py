import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator.plan.aws import CLUSTER, MADE, RESOURCE, TENANT, Owner, Standing, made_in, ours_to_take

OWNER = Owner("acme", "one", "agents/support")


@given(st.sets(st.sampled_from(["us-east-1", "us-west-2", "eu-west-1"])))
def test_our_own_tags_are_ours_and_say_where_we_made_it(regions: set[str]) -> None:
    tags = OWNER.tags(regions)
    assert OWNER.standing(tags) is Standing.OURS
    assert made_in(tags) == regions
    assert all(tags.values())  # AWS takes no empty value in a condition


@pytest.mark.parametrize(
    ("change", "standing"),
    [
        ({TENANT: "other"}, Standing.FOREIGN),
        ({RESOURCE: "agents/other"}, Standing.FOREIGN),
        ({CLUSTER: "two"}, Standing.ELSEWHERE),
        ({CLUSTER: None}, Standing.RELEASED),
        ({CLUSTER: None, TENANT: "other"}, Standing.FOREIGN),
        ({TENANT: None, CLUSTER: None, RESOURCE: None}, Standing.NOBODYS),
    ],
)
def test_whose_a_store_is(change: dict[str, str | None], standing: Standing) -> None:
    tags = {key: value for key, value in {**OWNER.tags(()), **change}.items() if value is not None}
    assert OWNER.standing(tags) is standing
    assert MADE in tags


def test_only_nobodys_needs_to_be_asked_for() -> None:
    assert [s for s in Standing if ours_to_take(s, adopt=False)] == [Standing.OURS, Standing.RELEASED]
    assert [s for s in Standing if ours_to_take(s, adopt=True)] == [Standing.OURS, Standing.RELEASED, Standing.NOBODYS]
