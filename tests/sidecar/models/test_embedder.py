"""The real loading code on a tiny model: see ``tiny/make.py``."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from agentmemory_sidecar.models.embedder import Embedder, NoModel

TINY = Path(__file__).parent / "tiny"


def test_texts_of_one_meaning_have_one_direction():
    vectors = Embedder(TINY)(["my car", "an AUTOMOBILE", "the dog", "car " * 1_000, ""])
    assert vectors.shape == (5, 32)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors[:4], axis=1), 1.0, atol=1e-5)
    likeness = vectors @ vectors[0]
    assert likeness[1] > 0.9
    assert likeness[3] > 0.9
    assert likeness[2] < 0.3


def test_a_text_has_one_vector_whatever_stands_beside_it():
    embed = Embedder(TINY)
    alone = embed(["a puppy"])
    beside = embed([*["a much longer text about a physician and a house"] * 20, "a puppy"])
    assert np.allclose(alone[0], beside[-1], atol=1e-6)
    assert embed([]).shape[0] == 0


def test_what_stands_before_a_query_and_how_tokens_become_one_comes_from_the_folder(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "model")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "dog dog dog "}}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    embed = Embedder(folder)
    assert np.allclose(embed(["car"], asking=True), embed(["hound house"]), atol=1e-6)
    assert not np.allclose(embed(["car"]), embed(["dog"]), atol=0.5)


@pytest.mark.parametrize(
    ("missing", "said"), [("model.onnx", "has no model.onnx"), ("tokenizer.json", "has no tokenizer.json")]
)
def test_a_folder_without_a_model_says_what_it_lacks(tmp_path, missing, said):
    folder = shutil.copytree(TINY, tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(NoModel, match=said):
        Embedder(folder)


def test_a_broken_model_says_so(tmp_path):
    folder = shutil.copytree(TINY, tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(NoModel, match="cannot be read"):
        Embedder(folder)
