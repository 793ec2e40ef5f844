"""Pods for hypothesis: every shape that the injector tells apart, in any combination."""

from typing import Any

from hypothesis import strategies as st

_NAMES = ("agent", "worker", "planner", "gateway")
_INIT_NAMES = ("prepare", "migrate", "logs")
BASE_URLS: tuple[dict[str, Any], ...] = (
    {"value": "https://gateway.example/claude"},
    {"value": "http://localhost:4000"},
    {"value": "https://gateway.example/$team"},
    {"value": "https://$(HOST)"},
    {"value": "http://127.0.0.1:8377/s/mine"},
    {"value": ""},
    {},
    {"value": "unix:/run/claude.sock"},
    {"valueFrom": {"configMapKeyRef": {"name": "gateway", "key": "url"}}},
)


@st.composite
def _env(draw: st.DrawFn) -> list[dict[str, Any]]:
    entries = [{"name": f"OWN_{number}", "value": str(number)} for number in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        entries.append({"name": "ANTHROPIC_BASE_URL"} | draw(st.sampled_from(BASE_URLS)))
    if draw(st.booleans()):
        entries.append({"name": "CLAUDE_CODE_GATEWAY_HINT_HEADERS", "value": "0"})
    return draw(st.permutations(entries))


@st.composite
def _container(draw: st.DrawFn, name: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": name, "image": "example/agent:1", "futureField": {"kept": True}}
    if draw(st.booleans()):
        container["env"] = draw(_env())
    if draw(st.booleans()):
        container["ports"] = [{"containerPort": 8080}]
    if draw(st.booleans()):
        container["resources"] = {"limits": {"cpu": "1", "memory": "1Gi"}}
    return container


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """A pod with the label that can be injected."""
    annotations = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "agentmemory.io/session": st.sampled_from(
                    ("fixed", "{pod}", "{namespace}/{pod}/{label:app}", "{label:app}{label:app}", "50% $(X) ü")
                ),
                "agentmemory.io/memory": st.sampled_from(("support", "a" * 250)),
                "agentmemory.io/readiness": st.just("true"),
                "agentmemory.io/grace-period-seconds": st.just("45"),
                "other.example/any": st.just("x"),
            },
        )
    )
    metadata: dict[str, Any] = {
        "labels": {"agentmemory.io/inject": "true", "app": "support"},
        "annotations": annotations,
    }
    metadata |= draw(st.sampled_from(({"name": "pod-0"}, {"generateName": "pod-"})))
    names = draw(st.lists(st.sampled_from(_NAMES), min_size=1, unique=True))
    spec: dict[str, Any] = {"containers": [draw(_container(name)) for name in names], "futureField": ["kept"]}
    if init := draw(st.lists(st.sampled_from(_INIT_NAMES), unique=True)):
        spec["initContainers"] = [
            draw(_container(name)) | ({"restartPolicy": "Always"} if draw(st.booleans()) else {}) for name in init
        ]
    if draw(st.booleans()):
        spec["volumes"] = draw(st.sampled_from(([], [{"name": "own", "emptyDir": {}}])))
    if draw(st.booleans()):
        spec["terminationGracePeriodSeconds"] = draw(st.sampled_from((0, 5, 30, 600)))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
