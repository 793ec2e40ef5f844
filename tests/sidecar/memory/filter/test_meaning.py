import numpy as np

from agentmemory_sidecar.memory.filter.meaning import Meaning

TEXTS = tuple("abcdefghij")


def unit(*parts):
    vector = np.array(parts, np.float32)
    return vector / np.linalg.norm(vector)


def test_the_nearest_has_one_and_most_have_nothing():
    meaning = Meaning()
    assert meaning.unknown([*TEXTS, "a"]) == list(TEXTS)
    meaning.keep(TEXTS, np.stack([unit(1, 0), unit(1, 0.5), *[unit(0, 1)] * 8]))
    near = meaning.near(TEXTS, unit(1, 0))
    assert near[0] == 1.0
    assert 0 < near[1] < 1
    assert near[2:] == [0.0] * 8


def test_a_text_that_is_not_known_yet_is_near_to_nothing():
    meaning = Meaning()
    assert meaning.near(TEXTS, unit(1, 0)) == []
    meaning.keep(TEXTS[1:], np.stack([unit(1, 0.5), *[unit(0, 1)] * 8]))
    near = meaning.near(TEXTS, unit(1, 0))
    assert (near[0], near[1]) == (0.0, 1.0)
    meaning.keep(TEXTS[:1], np.stack([unit(1, 0)]))
    assert meaning.near(TEXTS, unit(1, 0))[0] == 1.0


def test_where_all_are_alike_none_is_near():
    meaning = Meaning()
    meaning.keep(TEXTS, np.stack([unit(1, 1)] * 10))
    assert meaning.near(TEXTS, unit(1, 0)) == []


def test_the_oldest_are_forgotten():
    meaning = Meaning(kept=4)
    meaning.keep(TEXTS, np.stack([unit(1, 0)] * 10))
    assert meaning.unknown(TEXTS) == list(TEXTS[:6])
