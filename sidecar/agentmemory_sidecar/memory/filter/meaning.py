"""What texts mean, as vectors of an embedding model, kept for each text. Needs numpy (the extra ``embeddings``)."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""One row of length 1 for each text."""

KEPT = 20_000
"""Vectors that are kept: with 384 numbers each, some 30 MB."""
TEXT_LIMIT = 1_000
"""Characters of a text that are looked at; models read no more."""
FROM = 1.0
"""A fact counts from so many standard deviations above the mean on: most facts have nothing to do with a question."""


class Embed(Protocol):
    """A model. Slow; safe to call from any thread."""

    def __call__(self, texts: Sequence[str], *, asking: bool = False) -> Vectors:
        """The vectors of texts; ``asking`` for a query, which some models see with other eyes than what is searched."""
        ...


class Meaning:
    """The vectors of the facts that were seen lately. Used from one thread; only ``Embed`` is called in others."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._matrix: tuple[tuple[str, ...], NDArray[np.bool_], Vectors] | None = None
        """The texts that were asked about last, which of them are known, and their vectors."""

    def unknown(self, texts: Iterable[str]) -> list[str]:
        """The texts that have no vector yet, each once."""
        return [text for text in dict.fromkeys(map(cut, texts)) if text not in self._vectors]

    def keep(self, texts: Sequence[str], vectors: Vectors) -> None:
        """What ``Embed`` made of texts that were ``unknown``."""
        for text, vector in zip(texts, vectors, strict=True):
            self._vectors[text] = vector
        while len(self._vectors) > self._kept:
            self._vectors.popitem(last=False)
        self._matrix = None

    def near(self, texts: tuple[str, ...], asked: Vectors) -> list[float]:
        """See ``Hints.near``; ``asked`` is the query's row. A text without a vector is near to nothing; empty where none has
        one, or all are alike."""
        known, matrix = self._rows(texts, asked.shape[-1])
        if not known.any():
            return []
        likeness = matrix @ asked.reshape(-1)
        have = likeness[known]
        deviation = float(have.std())
        if deviation < 1e-6:
            return []
        above = np.maximum((likeness - float(have.mean())) / deviation - FROM, 0.0)
        most = float(above.max())
        return [float(one) for one in above / most] if most > 0 else []

    def _rows(self, texts: tuple[str, ...], size: int) -> tuple[NDArray[np.bool_], Vectors]:
        if self._matrix is not None and self._matrix[0] is texts:
            return self._matrix[1], self._matrix[2]
        matrix = np.zeros((len(texts), size), np.float32)
        known = np.zeros(len(texts), np.bool_)
        for at, text in enumerate(map(cut, texts)):
            vector = self._vectors.get(text)
            if vector is not None and vector.shape == (size,):
                matrix[at] = vector
                self._vectors.move_to_end(text)
                known[at] = True
        self._matrix = texts, known, matrix
        return known, matrix


def cut(text: str) -> str:
    return text[:TEXT_LIMIT]
