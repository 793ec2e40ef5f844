"""Short ways to write resources in tests."""

from textwrap import indent

from agentmemory_sidecar.resource import AgentMemory, ResourceError, loads

HEAD = "apiVersion: agentmemory.io/v1alpha1\nkind: AgentMemory\nmetadata: {name: test, namespace: agents}\nspec:\n"


def yaml(spec: str) -> str:
    """A whole document around a spec's YAML."""
    return HEAD + indent(spec.strip("\n") or "{}", "  ") + "\n"


def resource(spec: str) -> AgentMemory:
    return loads(yaml(spec), source="test.yaml")


def refusal(text: str, name: str = "") -> str:
    """What loading says about a bad document."""
    try:
        loads(text, name, source="test.yaml")
    except ResourceError as error:
        return str(error)
    raise AssertionError("this document was accepted")
