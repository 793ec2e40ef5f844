"""Where a laptop's values come from: environment variables, files, and a folder that stands for Kubernetes Secrets."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agentmemory_sidecar.resource.common import ValueFrom

_MAX_BYTES = 1 << 20


class Unresolved(Exception):
    """A value could not be had. The text says why and what to do, without any value."""


class Resolver(Protocol):
    """How references become values."""

    def resolve(self, source: ValueFrom) -> str:
        """The value. Raises :class:`Unresolved`."""
        ...


@dataclass(frozen=True, slots=True)
class LocalValues:
    """A laptop's resolver."""

    folder: Path
    """What relative files are relative to: the YAML file's folder."""
    secrets: Path | None = None
    """The folder with one folder for each Secret and in it one file for each key; None for none."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    """The environment variables."""

    def resolve(self, source: ValueFrom) -> str:
        if source.env is not None:
            value = self.environment.get(source.env, "")
            if not value:
                raise Unresolved(f"the environment variable {source.env} is not set: export it first")
            return value
        if source.file is not None:
            return _read(self.folder / source.file)
        assert source.secret_key_ref is not None
        name, key = source.secret_key_ref.name, source.secret_key_ref.key
        if self.secrets is None:
            raise Unresolved(
                f"the Secret {name} is not to be had outside a cluster: name a folder that holds {name}/{key} with "
                "--secrets, or use env or file"
            )
        return _read(self.secrets / name / key)


def _read(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise Unresolved(f"the file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unresolved(f"the file {path} is not UTF-8 text") from None
    if len(data) > _MAX_BYTES:
        raise Unresolved(f"the file {path} is larger than 1 MiB: it is no secret")
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise Unresolved(f"the file {path} is empty")
    return value
