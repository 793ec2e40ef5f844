from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmemory_operator.inject.session import LONGEST, Session, Template, TemplateError
from tests.operator.inject import goldens


def render(text: str, pod: dict[str, Any] | None = None) -> Session:
    return Template.parse(text).render(pod or goldens.pod("plain"), "agents")


def expanded(session: Session, values: dict[str, str]) -> str:
    """What Kubernetes makes of it: each ``$(VAR)`` gives way to the value of its field."""
    text = session.encoded
    for name, path in session.variables.items():
        text = text.replace(f"$({name})", values[path])
    return text


@given(st.text(min_size=1, max_size=16))
def test_a_literal_comes_out_of_the_url_as_it_went_in(text: str) -> None:
    if any(ord(c) < 32 or ord(c) == 127 for c in text) or text in (".", ".."):
        return
    try:
        session = render(text.replace("{", "{{").replace("}", "}}"))
    except UnicodeEncodeError:
        return
    assert unquote(session.encoded) == text
    assert "/" not in session.encoded
    assert "$" not in session.encoded
    assert session.value.replace("$$", "$") == text
    assert not session.variables


@pytest.mark.parametrize(
    ("text", "pod", "encoded"),
    [
        ("{namespace}.{pod}", "plain", "agents.agent"),
        ("{workload}", "deployment", "support"),
        ("{workload}", "statefulset", "concierge"),
        ("{workload}", "job", "nightly"),
        ("{workload}", "plain", "agent"),
        ("{pod}/{ordinal}", "statefulset", "concierge-2%2F2"),
        ("{ordinal}", "job", "4"),
        ("{{{namespace}}}", "plain", "%7Bagents%7D"),
    ],
)
def test_what_is_known_at_admission_is_written_out(text: str, pod: str, encoded: str) -> None:
    assert render(text, goldens.pod(pod)) == Session(encoded, unquote(encoded), {})


def test_what_only_the_running_pod_knows_is_left_to_kubernetes() -> None:
    session = render("{pod}:{label:app}:{pod}", goldens.pod("deployment"))
    assert session.variables == {
        "AGENTMEMORY_SESSION_1": "metadata.name",
        "AGENTMEMORY_SESSION_2": "metadata.labels['app']",
    }
    values = {"metadata.name": "support-6d4cf56db6-x7x2p", "metadata.labels['app']": "support"}
    assert unquote(expanded(session, values)) == "support-6d4cf56db6-x7x2p:support:support-6d4cf56db6-x7x2p"
    assert session.value == "$(AGENTMEMORY_SESSION_1):$(AGENTMEMORY_SESSION_2):$(AGENTMEMORY_SESSION_1)"


def test_a_label_that_comes_with_the_node_need_not_be_there() -> None:
    assert render("{label:topology.kubernetes.io/region}-x").encoded == "$(AGENTMEMORY_SESSION_1)-x"


def test_an_ordinal_is_read_from_the_name_where_the_label_is_not() -> None:
    pod = goldens.pod("statefulset")
    pod["metadata"]["labels"].pop("apps.kubernetes.io/pod-index")
    assert render("{ordinal}", pod).encoded == "2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("{", "brace"),
        ("a}b", "brace"),
        ("{}", "not known"),
        ("{uid}", "not known"),
        ("{label:}", "not known"),
        ("{label:a/b/c}", "not known"),
        ("{pod:x}", "not known"),
        ("a\nb", "control characters"),
    ],
)
def test_what_is_no_template_is_refused(text: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        Template.parse(text)


@pytest.mark.parametrize(
    ("text", "pod", "says"),
    [
        (".", "plain", "clients drop them"),
        ("..", "plain", "clients drop them"),
        ("{ordinal}", "deployment", "use {pod}"),
        ("{label:team}", "plain", "label team, which the pod does not have"),
        ("x" * (LONGEST + 1), "plain", "up to 201 bytes"),
        ("x" * 138 + "{pod}", "deployment", "up to 201 bytes"),
        ("ü" * 34, "plain", "up to 204 bytes"),
    ],
)
def test_a_template_that_does_not_fit_the_pod_is_refused(text: str, pod: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        render(text, goldens.pod(pod))


def test_a_pod_with_neither_owner_nor_name_has_no_workload() -> None:
    with pytest.raises(TemplateError, match="write the name itself"):
        render("{workload}", {"metadata": {"generateName": "x-"}})


def test_the_longest_id_fits() -> None:
    assert len(render("x" * 137 + "{pod}", goldens.pod("deployment")).variables) == 1
