import pytest

from agentmemory_sidecar.resource.prompt import Op, When
from tests.sidecar.resource.resources import refusal, resource, yaml


def test_a_rule_says_little() -> None:
    (rule,) = resource("extraction: {rules: [{tools: [save], to: /extracted_context/x}]}").spec.extraction.rules
    assert (rule.when, rule.from_, rule.op, rule.template) == (When.CALL, "", Op.REPLACE, None)


@pytest.mark.parametrize("template", ["[{/status}] {/content}", "plain", "{}", "{{literal}} {/a~1b/0}"])
def test_templates(template: str) -> None:
    assert resource(f"extraction: {{rules: [{{tools: [a], to: /x, template: '{template}'}}]}}").spec.extraction.rules


@pytest.mark.parametrize("template", ["{status}", "{/a", "/a}", "{/a~2}", "{{{", "{/a{/b}}"])
def test_templates_that_lead_nowhere(template: str) -> None:
    message = refusal(yaml(f"extraction: {{rules: [{{tools: [a], to: /x, template: '{template}'}}]}}"))
    assert "spec.extraction.rules[0]: template has a brace that is no {/json/pointer}: double it" in message
