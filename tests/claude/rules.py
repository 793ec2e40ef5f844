"""What a well-shaped conversation may still get wrong."""

from tests.claude.prompt import Prompt


def check(prompt: Prompt) -> None:
    """Raise the API's 400 for the first rule a prompt breaks."""
