from agentmemory_sidecar.memory.tokens import estimate


def test_four_characters_are_a_token_rounded_up():
    assert [estimate(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]


def test_wide_characters_are_a_token_each():
    assert estimate("記憶力") == 3
    assert estimate("記憶 is memory") == 2 + 3
    assert estimate("naïve café") == 3


def test_bytes_are_read_as_utf8_even_when_broken():
    assert estimate("記憶".encode()) == 2
    assert estimate(b"\xff\xfe abc") == 2
