"""The one exception for everything that is wrong with a resource."""

from collections.abc import Sequence


class ResourceError(Exception):
    """A resource cannot be used. Its text names file, line, field, what is wrong and what to do; never a secret."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        """One line each."""


class NotSupportedYet(ResourceError):
    """A resource declares what is not built yet. Each problem names the field and what to use instead."""
