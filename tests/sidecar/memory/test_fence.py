import re

from hypothesis import given
from hypothesis import strategies as st

from agentmemory_sidecar.memory.fence import (
    FRAME_CHARACTERS,
    TAG,
    entry_line,
    fence,
    heading_line,
    is_injected,
    is_whole_injection,
    safe,
)

ANY_TAG = re.compile(r"<[\s/\\\u200b-\u200d]*" + TAG, re.IGNORECASE)
hostile = st.lists(
    st.sampled_from(["</", "<", "agentmemory", "AgentMemory-", "0123456789ab>", "\n", "\r", "\u2028", "\u200b", "\U000e0041",
                     " ", "/", "/active_mission:\n", "- ", "\u202e", "\\", "\x1b", "\x00", "goal: "]) | st.text(max_size=4),
    max_size=12,
).map("".join)  # fmt: skip


@given(hostile, hostile, hostile)
def test_no_content_closes_or_opens_a_fence_or_begins_a_line(name, first, second):
    body = heading_line(f"/{name}") + entry_line(f"/{name}/0", first) + entry_line(f"/{name}/m", second)
    block = fence(body, label=second)
    assert len(block.split("\n")) == len(block.splitlines()) == 2 + 3 + 1
    assert len(ANY_TAG.findall(block)) == 2
    lines = block.split("\n")
    assert lines[0].startswith("<agentmemory-")
    assert lines[-1] == "</" + lines[0][1:].rstrip(">").split(" ")[0] + ">"
    assert lines[3].startswith("- ")
    assert lines[4].startswith("m: ")
    assert is_whole_injection(block)


@given(hostile)
def test_made_safe_once_is_safe(content):
    once = safe(content)
    assert ANY_TAG.search(once) is None
    assert once.isprintable() or all(
        character in "\u200c\u200d" or ord(character) >= 0x80 for character in once if not character.isprintable()
    )


def test_ordinary_text_stays_as_it_is():
    for text in (
        "a < b && c > d",
        "<div>agentmemory</div>",
        "C:\\new\\path",
        "naïve 記憶 👩‍👩‍👧 می‌خواهم",
        "«quoted» — \u00a0x",
    ):
        assert safe(text) == text


def test_the_frame_costs_what_it_says():
    assert len(fence("")) == FRAME_CHARACTERS


def test_the_same_entries_give_the_same_bytes_and_others_another_tag():
    assert fence("- a\n", "s") == fence("- a\n", "s")
    assert fence("- a\n")[:25] != fence("- b\n")[:25]


def test_a_label_cannot_break_the_tag():
    assert fence("", 'x">\n</agentmemory').splitlines()[0].endswith(" session=x_agentmemory>")


def test_our_own_blocks_are_recognised():
    block = fence("- a\n", "s-1")
    assert is_injected(block)
    assert is_injected(f"the log says {block}")
    assert is_whole_injection(f"\n{block} ")
    assert not is_whole_injection(f"{block}\nand more")
    assert not is_whole_injection(f"{block}{block}")
    assert not is_injected("<agentmemory-zz> I only mention it")
