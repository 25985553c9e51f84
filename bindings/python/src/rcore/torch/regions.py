# rcore/torch/regions.py: what code inside a region, and a trainer around it, can ask of it.
"""Regions by handle: replay ahead of backward, decisions recorded once, and the phase that runs."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from rcore import _core

__all__ = ["collect_regions", "is_replaying", "record"]


@contextlib.contextmanager
def collect_regions() -> Iterator[list[_core.Region]]:
    """Gives the regions that begin on this thread inside, in the order in which their forwards end.

    A region can be replayed ahead of backward, ``region.replay()``; every backward after that
    shares what it made, until ``region.release()`` or until the graph frees its saved tensors. The
    list keeps the regions' inputs alive.
    """
    regions: list[_core.Region] = []
    before = _core.collect(regions)
    try:
        yield regions
    finally:
        _core.collect(before)


def is_replaying() -> bool:
    """Whether the code that calls this runs for a second time, in backward, to make saved tensors
    again.
    """
    return _core.is_replaying()


def record(tensor: torch.Tensor) -> torch.Tensor:
    """Keeps a small result that must be the same in replay: a router's choice, a sampled index, a
    scale.

    In the forward of a region the content is copied. In its replay the same call overwrites
    ``tensor`` with that copy, so that what follows takes the forward's way, even where a near-tie
    would now fall to the other side. Outside of regions it does nothing. Record the same tensors in
    the same order each time.

    Returns:
        ``tensor``, or its contiguous copy.
    """
    return _core.record(tensor)
