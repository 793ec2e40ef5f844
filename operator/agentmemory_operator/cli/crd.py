"""`agentmemory crd`: the CustomResourceDefinition, for `kubectl apply --server-side -f -`."""

import click

from agentmemory_operator.crd import text


@click.command("crd")
def crd() -> None:
    """Print the CustomResourceDefinition of AgentMemory as YAML."""
    click.echo(text(), nl=False)
