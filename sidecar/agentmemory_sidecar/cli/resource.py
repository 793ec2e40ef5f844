"""The resource a command is given: read, compiled for this machine, with its data directory."""

from pathlib import Path

import click

from agentmemory_sidecar.cli.running import data_dir
from agentmemory_sidecar.resource import LocalValues, ResourceError, SidecarConfig, compile_resource, load


def data_directory(file: Path | None, data: Path | None, name: str = "") -> Path | None:
    """Where this resource's data lies on this machine; None where neither is given."""
    if data is not None or file is None:
        return data
    return data_dir(*_named(file, name))


def _named(file: Path, name: str) -> tuple[str, str]:
    try:
        resource = load(file, name)
    except ResourceError as error:
        raise click.UsageError(str(error)) from error
    return resource.metadata.namespace, resource.metadata.name


def compiled(
    file: Path, *, data: Path | None, region: str = "", name: str = "", upstream: str = "", secrets: Path | None = None
) -> SidecarConfig:
    """Raises UsageError, which ends the command with exit code 2."""
    try:
        resource = load(file, name)
        directory = data or data_dir(resource.metadata.namespace, resource.metadata.name)
        values = LocalValues(file.resolve().parent, secrets)
        config = compile_resource(
            resource, region or resource.spec.regions[0], values=values, data_dir=directory.absolute()
        )
    except ResourceError as error:
        raise click.UsageError(str(error)) from error
    if not upstream:
        return config
    if not upstream.startswith(("http://", "https://")):
        raise click.UsageError(f"--upstream must be a URL that begins with http:// or https://, not {upstream!r}")
    return config.model_copy(update={"upstream": config.upstream.model_copy(update={"url": upstream.rstrip("/")})})
