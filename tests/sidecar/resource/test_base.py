from agentmemory_sidecar.resource.agentmemory import AgentMemory, Spec
from agentmemory_sidecar.resource.base import CEL, Choice, at
from agentmemory_sidecar.resource.state import DynamoDb, Postgres
from tests.sidecar.resource.resources import resource


def test_a_choice_speaks_to_people_and_to_the_api_server() -> None:
    one, some = Choice(("a", "b"), "there is one"), Choice(("a", "b", "c"), "there is one", required=False)
    assert one.message == "give exactly one of a and b: there is one"
    assert one.rule == "(has(self.a) ? 1 : 0) + (has(self.b) ? 1 : 0) == 1"
    assert some.message == "give at most one of a, b and c: there is one"
    assert some.rule.endswith("<= 1")


def test_the_schema_carries_the_rules_for_the_api_server() -> None:
    definitions = AgentMemory.model_json_schema()["$defs"]
    assert definitions["Redis"][CEL][0]["rule"].startswith("(has(self.managed)")
    assert definitions["DynamoDb"]["properties"]["table"][CEL][0]["rule"] == "self == oldSelf"
    assert [rule["message"] for rule in definitions["Spec"][CEL]] == [message for _, message in Spec.cel]
    entries = definitions["DynamoDb"]["properties"]["perRegion"]
    assert entries["x-kubernetes-list-map-keys"] == ["region"]
    assert entries["maxItems"] == 16


def test_defaults_in_the_schema_are_in_their_written_form() -> None:
    properties = AgentMemory.model_json_schema()["$defs"]["Ephemeral"]["properties"]
    assert properties["ttl"]["default"] == "15m"
    assert properties["onUnavailable"]["default"] == "Degraded"


def test_an_entry_overrides_what_it_names_and_nothing_else() -> None:
    table = resource("""
regions: [east, west]
state:
  dynamodb:
    table: sessions
    endpoint: http://everywhere
    awsRegion: us-east-1
    perRegion: [{region: west, endpoint: http://west}]
""").spec.state.dynamodb
    assert isinstance(table, DynamoDb)
    assert at(table, "east") is table
    west = at(table, "west")
    assert (west.endpoint, west.aws_region, west.table) == ("http://west", "us-east-1", "sessions")


def test_another_way_to_give_a_value_replaces_the_default_way() -> None:
    postgres = resource("""
regions: [east, west]
state:
  postgres:
    dsn: postgresql://default
    perRegion: [{region: west, dsnFrom: {env: DSN}}]
""").spec.state.postgres
    assert isinstance(postgres, Postgres)
    west = at(postgres, "west")
    assert west.dsn is None
    assert west.dsn_from is not None
