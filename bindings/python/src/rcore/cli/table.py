# rcore/cli/table.py: plain tables for a terminal.
"""Columns as wide as they need to be; numbers to the right."""
from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ranges", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The head, a line, and the rows; the last column wraps nothing."""
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    numeric = [all(_is_number(r[i]) for r in rows) if rows else False for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            str(c).rjust(w) if n else str(c).ljust(w) for c, w, n in zip(cells, widths, numeric)
        ).rstrip()

    return "\n".join([line(head), "  ".join("-" * w for w in widths), *map(line, rows)])


def _is_number(text: str) -> bool:
    return (
        bool(text)
        and str(text)
        .strip()
        .rstrip("%")
        .replace(".", "")
        .replace("-", "")
        .replace("+", "")
        .isdigit()
    )


def ranges(numbers: Sequence[int]) -> str:
    """``0-3,8``."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
