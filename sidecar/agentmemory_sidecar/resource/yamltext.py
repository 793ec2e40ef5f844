"""YAML text to plain data with line numbers: strict where YAML is treacherous, and silent about values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from agentmemory_sidecar.resource.errors import ResourceError

Path = tuple[str | int, ...]

_MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """The safe loader without dates: `2024-01-01` is text, as it is for Kubernetes."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}


@dataclass(frozen=True, slots=True)
class Document:
    """One document's data, and the line on which each field begins (from 1).

    All are equal: where a resource was read from is no part of what it is.
    """

    data: Any = field(compare=False, repr=False)
    source: str = field(compare=False)
    lines: Mapping[Path, int] = field(compare=False, repr=False)

    def message(self, path: Path, text: str) -> str:
        """`file:line: path: text`, where the line is that of the nearest field that is there."""
        known = next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)
        where = f"{self.source}:{known}" if known else self.source
        return f"{where}: {dotted(path)}: {text}" if path else f"{where}: {text}"

    def value(self, path: Path) -> Any:
        """The value at a path; None for none."""
        value = self.data
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def dotted(path: Path) -> str:
    """A path as people write it: `spec.extraction.rules[0].to`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def documents(text: str, source: str) -> list[Document]:
    """All documents of a YAML text, empty ones left out. Raises ResourceError."""
    try:
        return list(_documents(text, source))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ResourceError([f"{where}: is not valid YAML: {_reason(error)}"]) from None
    except yaml.YAMLError:
        raise ResourceError([f"{source}: is not valid YAML: it holds characters that YAML does not allow"]) from None
    except RecursionError:
        raise ResourceError([f"{source}: is nested too deeply for a resource"]) from None


def _documents(text: str, source: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node() and (node := loader.get_node()):
            lines: dict[Path, int] = {}
            data = _Reader(loader, source, lines).read(node, ())
            if data is not None:
                yield Document(data, source, lines)
    finally:
        loader.dispose()


def _reason(error: yaml.MarkedYAMLError) -> str:
    # Scanner and parser speak of characters and tokens; the composer quotes names, which may be half of a password.
    if isinstance(error, yaml.scanner.ScannerError | yaml.parser.ParserError):
        return str(error.problem)
    return "a value that begins with * or & must be in quotes, or its anchor must be there"


@dataclass(slots=True)
class _Reader:
    loader: _Loader
    source: str
    lines: dict[Path, int]
    count: int = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.count += 1
        if self.count > _MAX_NODES:
            raise ResourceError([f"{self.source}: holds more than {_MAX_NODES} values once its aliases are followed"])
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return dict(self._pairs(node, path))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return self.loader.construct_object(node)
            except ValueError:
                raise self._wrong(node, path, "its value does not fit its tag: put it in quotes") from None
        raise self._wrong(node, path, "tags (words after !) have no place in a resource: put the value in quotes")

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._wrong(key_node, path, "a field's name must be plain text")
            key = key_node.value
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise self._wrong(key_node, path, "merge keys (<<) have no place in a resource: write the fields out")
            if key_node.tag != "tag:yaml.org,2002:str":
                raise self._wrong(key_node, (*path, key), "YAML takes this name for no text: put it in quotes")
            if key in seen:
                raise self._wrong(key_node, (*path, key), "is there twice: remove one of the two")
            seen.add(key)
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            yield key, self.read(value_node, (*path, key))

    def _wrong(self, node: yaml.Node, path: Path, text: str) -> ResourceError:
        return ResourceError([Document(None, self.source, {(): node.start_mark.line + 1}).message(path, text)])
