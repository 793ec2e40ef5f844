"""How the demonstration looks on a terminal."""

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from examples.demo.conversation import HEADER, Receipt
from examples.demo.servers import CHECKOUT, PROGRAM, RESOURCE, Sidecar

WIDTH = 100
LABEL = 10


class Teller:
    """Prints; in colour where a person reads it."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def title(self, text: str) -> None:
        self.line(f"\n{self._in('1', text)}")

    def item(self, label: str, text: str) -> None:
        lines = textwrap.wrap(text, WIDTH - LABEL, break_long_words=False, break_on_hyphens=False) or [""]
        self.line(f"  {label:{LABEL}}{lines[0]}")
        for more in lines[1:]:
            self.line(" " * (LABEL + 2) + more)

    def said(self, who: str, text: str) -> None:
        self.item(who, " ".join(text.split()))

    def receipt(self, receipt: Receipt) -> None:
        flags = f", {receipt.flags.replace(',', ', ')}" if receipt.flags else ""
        self.item("receipt", f"read from the {receipt.tier} tier{flags}; {receipt.commit} as version {receipt.version}")
        costs = (("whole state", receipt.state), ("injected now", receipt.injected), ("repeated", receipt.replayed))
        text = ", ".join(f"{name} {count}" for name, count in costs)
        self.item("tokens", f"{text}; Claude counted {receipt.input} in the prompt")

    def remembered(self, state: dict[str, Any], injected: list[str]) -> None:
        kept = {name: value for name, value in state.items() if name != "metadata" and value}
        self.item("state", json.dumps(kept, ensure_ascii=False))
        for number, text in enumerate(injected):
            self.item("" if number else "injected", _shown(text))

    def failed(self, text: str) -> None:
        print(self._in("31;1", f"\nFailed: {text}"), file=sys.stderr, flush=True)

    def serving(self, sidecar: Sidecar, directory: Path, session: str, *, real: bool, asked_for: bool) -> None:
        data = _short(directory / "data")
        program = _short(PROGRAM)
        self.title(f"Serving on {sidecar.url} until Ctrl-C")
        if not asked_for:
            self.item("", "(port 8377 is taken, so this is another one)")
        if not real:
            self.item("", "(Claude is still the stand-in: it quotes what its prompt holds. Set ANTHROPIC_API_KEY and run "
                          "this again for the real one.)")  # fmt: skip
        rows = (
            ("any agent", f"ANTHROPIC_BASE_URL={sidecar.url} with the header {HEADER}: {session}"),
            ("by env", f"ANTHROPIC_CUSTOM_HEADERS='{HEADER}: {session}' where code cannot set a header"),
            ("Claude Code", f"{program} run -f {RESOURCE} --data {data} -- claude"),
            ("look", f"{program} session show {session} --data {data}"),
        )
        for label, text in rows:
            self.line(f"  {label:13}{text}")

    def _in(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text


def _shown(text: str) -> str:
    """An injected text without its JSON: messages as ``role: words``, blocks as their text."""
    found = json.loads(f"[{text}]")
    shown = []
    for one in found:
        words = one.get("text") or one.get("content") or ""
        role = f"{one['role']}: " if "role" in one else ""
        shown.append(role + " ".join(str(words).split()))
    return " | ".join(shown)


def _short(path: Path) -> str:
    """Relative where the reader stands in the checkout."""
    return str(path.relative_to(CHECKOUT)) if Path.cwd() == CHECKOUT and path.is_relative_to(CHECKOUT) else str(path)
