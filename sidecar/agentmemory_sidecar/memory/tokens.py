"""How many tokens a text costs, without asking anybody."""

import re

_WIDE = re.compile(
    "["
    "\u1100-\u11ff\u2e80-\u9fff\ua000-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60"
    "\U0001f000-\U0001faff\U00020000-\U0003ffff"
    "]"
)
"""Chinese, Japanese, Korean and emoji: characters that rarely share a token."""


def estimate(text: str | bytes) -> int:
    """Tokens, estimated: one for each four characters, rounded up, and one for each CJK character or emoji.

    An estimate, with an error: English prose has 3.5 to 4.5 characters a token, so it may be off by about 15 % either
    way; source code, JSON, numbers and other alphabets have fewer, and may cost half as much again as it says. Budgets are
    kept in this unit. Bytes are read as UTF-8; broken ones count as a character each.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if text.isascii():
        return (len(text) + 3) // 4
    wide = len(_WIDE.findall(text))
    return wide + (len(text) - wide + 3) // 4
