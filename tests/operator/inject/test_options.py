import re
from pathlib import Path

import pytest

from agentmemory_operator.inject.options import PREFIX, Options, OptionsError, known
from agentmemory_operator.inject.session import Template

DOCS = Path(__file__).parents[3] / "docs" / "injection.md"


def read(**annotations: str) -> Options:
    return Options.read({f"{PREFIX}{name.replace('_', '-')}": value for name, value in annotations.items()})


def problems(**annotations: str) -> list[str]:
    with pytest.raises(OptionsError) as caught:
        read(**annotations)
    return caught.value.problems


def test_a_pod_without_annotations_has_the_defaults() -> None:
    assert Options.read({"other.example/x": "y"}) == Options()


def test_annotations_are_read_by_their_names() -> None:
    options = read(memory="support", session="s-{pod}", readiness="true", containers="a, b", grace_period_seconds="45")
    assert options.memory == "support"
    assert options.session == Template.parse("s-{pod}")
    assert options.readiness is True
    assert options.containers == ("a", "b")
    assert options.grace_period_seconds == 45


def test_a_misspelt_annotation_is_refused_with_the_one_that_was_meant() -> None:
    assert problems(sesion="x") == [f"annotation {PREFIX}sesion: is not known; did you mean {PREFIX}session?"]


def test_the_label_as_an_annotation_is_told_where_it_belongs() -> None:
    (problem,) = problems(inject="true")
    assert "is a label" in problem


def test_every_problem_is_told_at_once() -> None:
    assert len(problems(region="US East", readiness="1", user="")) == 3


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("readiness", "True", '"true" or "false"'),
        ("require-backend", "yes", '"true" or "false"'),
        ("memory", "Support", "Kubernetes name"),
        ("region", "us_east", "region's name"),
        ("user", "a\nb", "control characters"),
        ("user", "ü" * 34, "at most 200"),
        ("project", "", "leave the annotation out"),
        ("containers", "a,,b", "commas"),
        ("containers", "A", "commas"),
        ("image", "", "at least 1"),
        ("image-pull-policy", "Sometimes", "Always, IfNotPresent, Never"),
        ("cpu-request", "a lot", "quantity"),
        ("memory-limit", "-1Mi", "quantity"),
        ("role-arn", "memory", "Amazon resource name"),
        ("grace-period-seconds", "1m", "whole number of seconds"),
        ("grace-period-seconds", "0", "greater than or equal to 1"),
        ("log-level", "debug", "DEBUG, INFO, WARNING, ERROR"),
        ("session", "{x", "brace"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_annotation(name: str, value: str, says: str) -> None:
    with pytest.raises(OptionsError, match=f"annotation {PREFIX}{name}: .*{re.escape(says)}"):
        Options.read({f"{PREFIX}{name}": value})


def test_a_refusal_repeats_nothing_that_was_written() -> None:
    everything = {f"{PREFIX}{name}": "s3cret value\x00{" for name in known() if name != "image"}
    with pytest.raises(OptionsError) as caught:
        Options.read(everything)
    assert len(caught.value.problems) == len(everything)
    assert "s3cret" not in str(caught.value)


def test_the_documentation_has_every_annotation_with_its_meaning() -> None:
    text = DOCS.read_text()
    for field in Options.model_fields.values():
        assert field.description, field.alias
        row = f"| `{PREFIX}{field.alias}` | {' '.join(field.description.split())} |"
        assert row in text, row


def test_the_documentation_has_no_annotation_that_is_not_there() -> None:
    documented = set(re.findall(rf"^\| `{re.escape(PREFIX)}([a-z-]+)` \|", DOCS.read_text(), re.MULTILINE))
    assert documented == set(known())
