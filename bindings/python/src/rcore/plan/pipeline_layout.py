# rcore/plan/pipeline_layout.py: Megatron's pipeline layout strings, "Et*3|(tt|)*6tmL", as layers
# per stage.
"""E embedding, t decoder layer, m multi-token prediction layer, L loss; | ends a virtual stage,
*n repeats."""

from __future__ import annotations

import re

from rcore.plan.errors import InputError

__all__ = ["layers_per_stage"]

_MOST = 1 << 16


def _expanded(text: str) -> str:
    group = re.compile(r"\(([^()]*)\)(?:\*(\d+))?")
    while (found := group.search(text)) is not None:
        body = found.group(1) * int(found.group(2) or 1)
        if len(body) > _MOST:
            raise InputError(f"pipeline layout {text!r} repeats more than {_MOST} times")
        text = text[: found.start()] + body + text[found.end() :]
    return re.sub(r"([Etm L|])\*(\d+)", lambda m: m.group(1) * min(int(m.group(2)), _MOST), text)


def layers_per_stage(layout: str) -> list[int]:
    """Decoder layers of each virtual stage in the order a microbatch passes them."""
    text = layout.strip().strip("\"'").replace(" ", "").replace(",", "")
    plain = _expanded(text)
    if not re.fullmatch(r"[EtmL|]+", plain):
        raise InputError(f"pipeline layout {layout!r}: only E, t, m, L, |, (...) and *n are known")
    return [stage.count("t") for stage in plain.split("|")]
