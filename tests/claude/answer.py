"""The default answer: what in the prompt bears on the question, quoted. So a reply shows whether a fact got there."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.claude.prompt import Prompt, asked, blocks_of, texts_of

TOLD = "From what I was told: "
UNKNOWN = "I was not told anything about that."
NOTED = "Noted."
"""The answer to what is no question and brings nothing to mind."""
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_STOP = frozenset(
    _WORD.findall(
        """a about all also am an and any are as at be been but by can could did do does for from had has have he her
        his how i if in into is it its just let me my no not of on or our please s she should so some tell than that the
        their them then there these they this to told up us was we were what when where which who whom why will with
        would yes you your"""
    )
)


def answer(prompt: Prompt) -> str:
    """Quotes the sentences of the whole prompt that share the most content words with the last question."""
    last = prompt.messages[-1] if prompt.messages else {"content": ""}
    results = [block for block in blocks_of(last["content"]) if block.get("type") == "tool_result"]
    if results:
        return _about_results(results)
    begin = asked(prompt.messages)
    question = _question(prompt.messages[begin]["content"]) if begin >= 0 else ""
    wanted = _words(question)
    needed = 1 if len(wanted) < 3 else 2
    best, score = [], needed
    for sentence in _sentences(prompt):
        lower = sentence.casefold()
        if not any(word in lower for word in wanted):
            continue  # the cheap half of the test below
        if sentence in question or sentence.endswith("?") or sentence.startswith((TOLD, UNKNOWN, NOTED)):
            continue
        shared = len(wanted & _words(sentence))
        if shared > score:
            best, score = [sentence], shared
        elif shared == score and sentence not in best:
            best.append(sentence)
    if best:
        return TOLD + " ".join(best[:2])
    return UNKNOWN if question.endswith("?") else NOTED


def _question(content: Any) -> str:
    """The last sentence with a question mark of the first block that has one, else the first block; reminders that a
    client puts in front are skipped, and what a proxy may have put behind counts as told, not as asked."""
    texts = [t for t in texts_of(content) if t.strip() and not t.lstrip().startswith("<system-reminder>")]
    for text in texts:
        asking = [part for part in _SENTENCE.split(text) if part.rstrip().endswith("?")]
        if asking:
            return asking[-1].strip()
    return texts[0].strip() if texts else ""


def _sentences(prompt: Prompt) -> Iterator[str]:
    for text in texts_of(prompt.system):
        yield from _split(text)
    for message in prompt.messages:
        for text in texts_of(message["content"]):
            yield from _split(text)


def _split(text: str) -> Iterator[str]:
    for part in _SENTENCE.split(text):
        if part.strip():
            yield part.strip()


def _words(text: str) -> set[str]:
    found = {word.casefold() for word in _WORD.findall(text)} - _STOP
    return {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found}


def _about_results(results: list[dict[str, Any]]) -> str:
    said = []
    for block in results:
        text = " ".join(texts_of(block.get("content"))) or msgspec.json.encode(block.get("content")).decode()
        failed = "failed and said" if block.get("is_error") else "gave"
        said.append(f"The tool {failed}: {' '.join(text.split())[:200]}")
    return "\n".join(said)
