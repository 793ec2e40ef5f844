"""Thinking signatures: each block is bound to its own text, to the exact conversation before it, and to the block
before it, so that blocks can be dropped from the front or the back of a conversation but not from its middle."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections import OrderedDict
from dataclasses import dataclass

from tests.claude.canonical import THINKING, compared, compared_message
from tests.claude.errors import bad
from tests.claude.options import Options
from tests.claude.prompt import Block, Prompt, blocks_of

CONTROLS = "thinking-binding-controls-2026-08-01"
_NONE = bytes(8)
_KEPT = 2000


@dataclass(frozen=True)
class Mismatch:
    """A thinking block that failed its check and was let pass or dropped."""

    path: str
    rule: str
    diagnosis: str


@dataclass(frozen=True)
class _Unit:
    label: str
    digest: bytes
    """Of everything up to and including this unit."""
    own: bytes
    excerpt: str


class Thinking:
    """Signs the thinking of replies and checks that of requests."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._signed: OrderedDict[bytes, list[_Unit]] = OrderedDict()
        """Prefixes signed lately, only to say where a mismatch lies."""

    def sign(self, prompt: Prompt, blocks: list[Block]) -> None:
        """Fill in ``signature`` (or ``data``) of a reply's thinking blocks, in place, where it is missing."""
        if not any(block["type"] in THINKING for block in blocks):
            return
        units = _units(prompt)
        prefix = units[-1].digest[:16]
        self._signed[prefix] = units
        while len(self._signed) > _KEPT:
            self._signed.popitem(last=False)
        previous = _NONE
        for message in prompt.messages:
            for block in blocks_of(message["content"]):
                if block.get("type") in THINKING:
                    previous = _name(block)
        hidden = prompt.thinking.get("display") == "omitted"
        for block in blocks:
            if block["type"] not in THINKING:
                continue
            field = _field(block)
            if block["type"] == "thinking" and hidden:
                block["thinking"] = ""
            if not block.get(field):
                block[field] = self._signature(_text(block), previous, prefix)
            previous = _name(block)

    def check(self, prompt: Prompt) -> list[Mismatch]:
        """Verify every thinking block of the history against what stands before it now.

        Raises the API's 400 for the first that fails, unless the request asks for ``drop_block``: then failing blocks,
        with the consecutive ones behind them, are taken out of ``prompt.messages`` and listed in ``prompt.dropped``.
        """
        if not any(b.get("type") in THINKING for m in prompt.messages for b in blocks_of(m["content"])):
            return []
        units = _units(prompt)
        drop = (prompt.thinking.get("block_binding") or {}).get("prefix_mismatch_behavior") == "drop_block"
        found: list[Mismatch] = []
        before: bytes | None = None
        kept_messages = []
        for index, message in enumerate(prompt.messages):
            kept, dropping = [], False
            for number, block in enumerate(blocks_of(message["content"])):
                if block.get("type") not in THINKING:
                    dropping = False
                    kept.append(block)
                    continue
                path = f"{prompt.at(index)}.content.{number}"
                rule, diagnosis = self._verdict(block, units[: index + 2], before)
                if rule == "thinking_signature":
                    raise bad(f"{path}: Invalid `{_field(block)}` in `{block['type']}` block", rule=rule)
                if rule or dropping:
                    found.append(Mismatch(path, rule or "thinking_prefix", diagnosis))
                    if drop:
                        dropping = True
                        entry = {"type": "thinking_dropped", "path": path, "reason": "prefix_binding_mismatch"}
                        prompt.dropped.append(entry)
                        continue
                    if self._options.enforce_thinking:
                        raise bad(_bound(path, block), rule=rule, diagnosis=diagnosis)
                    allowed = {"type": "thinking_mismatch_allowed", "path": path, "reason": "prefix_binding_mismatch"}
                    prompt.dropped.append(allowed)
                before = _name(block)
                kept.append(block)
            kept_messages.append(message if isinstance(message["content"], str) else {**message, "content": kept})
        prompt.messages = kept_messages
        return found

    def _verdict(self, block: Block, units: list[_Unit], before: bytes | None) -> tuple[str, str]:
        """(rule broken or empty, diagnosis). ``units`` end with the message before the block's own."""
        try:
            raw = b64decode(block.get(_field(block)) or "", validate=True)
        except ValueError:
            return "thinking_signature", ""
        previous, prefix = raw[1:9], raw[9:25]
        if raw != self._raw(_text(block), previous, prefix):
            return "thinking_signature", ""
        if prefix != units[-1].digest[:16]:
            return "thinking_prefix", self._difference(prefix, units)
        if before is not None and previous not in (_NONE, before):
            return "thinking_window", "a thinking block between this one and the one before it is missing"
        return "", ""

    def _difference(self, prefix: bytes, units: list[_Unit]) -> str:
        """Where the conversation first differs from the one that was signed."""
        signed = self._signed.get(prefix)
        if signed is None:
            return "the prefix that was signed is not known here any more"
        for was, now in zip(signed, units, strict=False):
            if was.own != now.own:
                return f"{was.label} was {was.excerpt} and is now {now.excerpt}"
        longer = signed if len(signed) > len(units) else units
        unit = longer[min(len(signed), len(units))]
        return f"{unit.label} {'is missing' if longer is signed else 'is new'}: {unit.excerpt}"

    def _signature(self, text: str, previous: bytes, prefix: bytes) -> str:
        return b64encode(self._raw(text, previous, prefix)).decode()

    def _raw(self, text: str, previous: bytes, prefix: bytes) -> bytes:
        mac = hmac.digest(self._options.signing_key, previous + prefix + text.encode(), "sha256")
        return b"\x01" + previous + prefix + mac


def _units(prompt: Prompt) -> list[_Unit]:
    """System, tools and messages with rolling digests: ``units[n + 1]`` ends with the last message before number n."""
    parts = compared(prompt)
    parts += [(f"messages.{n}", compared_message(message)) for n, message in enumerate(prompt.messages)]
    units, digest = [], b""
    for label, data in parts:
        own = hashlib.sha256(data).digest()
        digest = hashlib.sha256(digest + own).digest()
        excerpt = data[:400].decode(errors="replace") + ("…" if len(data) > 400 else "")
        units.append(_Unit(label, digest, own, excerpt))
    return units


def _bound(path: str, block: Block) -> str:
    return (
        f"{path}: Invalid `{_field(block)}` in `{block['type']}` block. The block is bound to a different "
        'conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
    )


def _field(block: Block) -> str:
    return "signature" if block["type"] == "thinking" else "data"


def _text(block: Block) -> str:
    return block["thinking"] if block["type"] == "thinking" else "redacted"


def _name(block: Block) -> bytes:
    return hashlib.sha256(str(block.get(_field(block))).encode()).digest()[:8]
