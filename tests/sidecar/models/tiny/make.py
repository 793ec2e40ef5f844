"""Makes the folder's model: words that mean the same have the same vector, all others one of their own. It needs ``onnx``,
which is no dependency of ours: ``pip install onnx numpy``, then ``python make.py``."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

HERE = Path(__file__).parent
GROUPS = (
    "car automobile vehicle drive drives", "dog puppy hound pet", "doctor physician clinic", "ship release deploy",
    "money salary pay", "home house flat lives", "meal dinner food lunch",
)  # fmt: skip
SIZE = 32


def main() -> None:
    words = ["[PAD]", "[UNK]", *(word for group in GROUPS for word in group.split())]
    rows = np.zeros((len(words), SIZE), np.float32)
    for number, group in enumerate(GROUPS):
        for word in group.split():
            rows[words.index(word), number] = 1.0
    rows[1] = np.random.default_rng(1).normal(0, 0.05, SIZE)  # what is unknown points nowhere much
    table = numpy_helper.from_array(rows, "rows")
    node = helper.make_node("Gather", ["rows", "input_ids"], ["last_hidden_state"])
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        [node], "tiny", [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, SIZE])], [table],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), HERE / "model.onnx")
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(words)}, "unk_token": "[UNK]"},
    }  # fmt: skip
    (HERE / "tokenizer.json").write_text(json.dumps(tokenizer))


if __name__ == "__main__":
    main()
