"""A small embedding model on this machine's CPU: ONNX Runtime, no network, no torch.

A folder as sentence-transformers has it: ``tokenizer.json`` and ``model.onnx`` (or ``onnx/model.onnx``); where they are
there, ``1_Pooling/config.json`` says how tokens become one vector, and ``config_sentence_transformers.json`` what stands
before a query.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmemory_sidecar.memory.filter.meaning import Vectors

_FILES = ("model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")
_MAX_TOKENS = 256
_AT_ONCE = 16


class NoModel(Exception):
    """There is no model to be had. The text says why and what to do."""


class Embedder:
    """See ``memory.filter.meaning.Embed``. Raises NoModel when it is made; that takes up to a few seconds."""

    def __init__(self, folder: Path) -> None:
        try:
            import numpy
            import onnxruntime  # type: ignore[import-untyped, unused-ignore]
            from tokenizers import Tokenizer
        except ImportError as error:
            raise NoModel(f"{error.name} is missing: pip install 'agentmemory-operator[embeddings]'") from None
        model = next((folder / name for name in _FILES if (folder / name).is_file()), None)
        tokens = folder / "tokenizer.json"
        if model is None or not tokens.is_file():
            lacks = "tokenizer.json" if model else " or ".join(_FILES[:2])
            raise NoModel(f"the folder {folder} has no {lacks}: put an ONNX export of an embedding model there")
        self._numpy: Any = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the sidecar leaves the CPU to the agent
        try:
            self._tokenizer = Tokenizer.from_file(str(tokens))
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            pooling = _json(folder / "1_Pooling" / "config.json")
            prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
        except Exception as error:  # the libraries raise types of their own, some of them bare Exceptions
            raise NoModel(f"the model in {folder} cannot be read ({type(error).__name__}): is it complete?") from error
        self._inputs = {each.name for each in self._session.get_inputs()}
        if "input_ids" not in self._inputs or self._inputs - {"input_ids", "attention_mask", "token_type_ids"}:
            raise NoModel(
                f"the model in {folder} takes {', '.join(sorted(self._inputs))}: use one that takes input_ids"
            )
        self._first = bool(pooling.get("pooling_mode_cls_token"))
        self._prompts = {True: str(prompts.get("query", "")), False: str(prompts.get("document", ""))}
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()

    def __call__(self, texts: Sequence[str], *, asking: bool = False) -> "Vectors":
        parts = [self._part(texts[at : at + _AT_ONCE], asking) for at in range(0, len(texts), _AT_ONCE)]
        vectors: Vectors = self._numpy.concatenate(parts) if parts else self._numpy.zeros((0, 0), "float32")
        return vectors

    def _part(self, texts: Sequence[str], asking: bool) -> "Vectors":
        np = self._numpy
        encoded = self._tokenizer.encode_batch([self._prompts[asking] + text for text in texts])
        ids = np.array([one.ids for one in encoded], dtype="int64")
        mask = np.array([one.attention_mask for one in encoded], dtype="int64")
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        out = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        if out.ndim == 3:
            weights = mask[..., None].astype("float32")
            out = out[:, 0] if self._first else (out * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
        vectors: Vectors = (out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)).astype("float32")
        return vectors


def _json(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return found if isinstance(found, dict) else {}
