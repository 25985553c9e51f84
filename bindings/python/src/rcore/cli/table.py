# rcore/cli/table.py: plain tables for a terminal.
"""Columns as wide as they need to be; numbers to the right."""
from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Sequence

__all__ = ["JOINT", "ranges", "table"]

#: A space at which no line ends.
JOINT = "\u00a0"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The head, a line, and the rows. In a terminal text goes on in further lines where the table
    is wider than that.
    """
    columns = list(zip(*[head, *rows]))
    widths = [max(map(len, column)) for column in columns]
    numeric = [bool(rows) and all(map(_is_number, column[1:])) for column in columns]
    least = [max(len(word) for cell in c for word in [*cell.split(" "), ""]) for c in columns]
    # Into a file or a pipe, lines are as long as they are.
    room = shutil.get_terminal_size((1 << 20, 24)).columns - 2 * (len(head) - 1)
    text = [i for i, n in enumerate(numeric) if not n]
    while sum(widths) > room and (text := [i for i in text if widths[i] > least[i]]):
        widths[max(text, key=lambda i: widths[i])] -= 1

    def lines(row: Sequence[str]) -> list[str]:
        cells = [_wrapped(cell, width) for cell, width in zip(row, widths)]
        return [
            "  ".join(
                cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(line, widths, numeric)
            ).rstrip()
            for line in itertools.zip_longest(*cells, fillvalue="")
        ]

    body = [line for row in rows for line in lines(row)]
    return "\n".join([*lines(head), "  ".join("-" * w for w in widths), *body])


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(JOINT, " ") for line in lines] or [""]


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
