import pytest

from agentmemory_sidecar.memory.filter.words import content_stems, stem, words


@pytest.mark.parametrize(
    "family",
    ["paint paints painting painted painter", "study studies studied studying", "run ran running runs runner",
     "move moved moving moves", "buy bought buying buys", "adopt adopted adopting adoption", "child children",
     "decide decided decides deciding", "party parties", "box boxes", "two 2", "photo photos photograph",
     "stop stopped stopping", "use used using uses", "bake baked baking baker"],
)  # fmt: skip
def test_forms_of_a_word_are_one(family):
    assert len({stem(word) for word in family.split()}) == 1


@pytest.mark.parametrize(
    "pair", ["sing single", "car care", "bus business", "new news", "king kind", "thing think", "bed be"]
)
def test_other_words_stay_apart(pair):
    assert len({stem(word) for word in pair.split()}) == 2


def test_possessives_and_contractions():
    assert words("Ada\u2019s cat isn't here") == ["ada", "cat", "isn't", "here"]
    assert content_stems("What is the name of Ada's cat?") == ["name", "ada", "cat"]


def test_numbers_count_and_single_letters_do_not():
    assert content_stems("a 7 b route 66") == ["7", "rout", "66"]


def test_scripts_without_spaces_are_cut_into_pairs():
    assert words("東京大学 x") == ["東京", "京大", "大学", "x"]
