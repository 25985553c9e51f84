# rcore/torch/hooks.py: looks at what a graph saves, and leaves to other hooks what they would take.
"""Saved-tensor hooks for measuring."""
from __future__ import annotations

import contextlib
from typing import Any
from collections.abc import Callable, Iterator

import torch
from torch._C import _autograd

from rcore import _core

__all__ = ["is_inside_region", "saving"]


def is_inside_region() -> bool:
    """Whether a region around the model, of torch's or ours, runs it, or runs it again: what it
    saves is not kept, and the region must see the same twice.
    """
    hooks = _autograd._top_saved_tensors_default_hooks(True)
    if hooks is None:
        return False
    pack = hooks[0]
    owner = type(getattr(pack, "__self__", None))
    return (getattr(pack, "__module__", None) == "torch.utils.checkpoint"
            or (owner.__module__, owner.__name__) in (("rcore._core", "Region"),
                                                      ("rcore._core", "Run")))


@contextlib.contextmanager
def saving(look: Callable[[torch.Tensor], None] | None = None) -> Iterator[None]:
    """The graph saves what it would without; a meter that runs counts it.

    Args:
        look: called with each tensor that is saved.
    """
    hooked = _autograd._top_saved_tensors_default_hooks(True) is not None
    keep = _core.hand_on_saved if hooked else _core.keep_saved

    def look_and_keep(t: torch.Tensor) -> Any:
        if look is not None:
            look(t)
        return keep(t)

    with torch.autograd.graph.saved_tensors_hooks(keep if look is None else look_and_keep,
                                                  _core.unpack_saved):
        yield
