"""Tables for a terminal."""

from collections.abc import Sequence
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str = "") -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    if not rows and empty:
        return empty
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) if cells else len(name) for i, name in enumerate(columns)]
    numeric = [bool(rows) and all(isinstance(row[i], int) or row[i] == "" for row in rows) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line([name.upper() for name in columns]), *(line(row) for row in cells)])
