# rcore/torch/state.py: buffers that a forward changes are changed once, and a replay sees them as
# the forward did.
"""Module state across the two runs of a region.

BatchNorm's statistics, amax histories and scales, counters of expert load: a module that changes
its own buffers would change them again in a replay, and read values that its forward had not seen.
A region that runs a module keeps copies of the buffers that the module is known to change; its
replay works on these.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rcore.torch.diagnose import Contexts

__all__ = ["Guard", "module_of", "with_guard"]

#: (module in training) -> buffers that it changes, as (submodule, name); learned in its first
#: region.
_changes: weakref.WeakKeyDictionary[nn.Module, dict[bool, list[tuple[weakref.ref, str]]]]
_changes = weakref.WeakKeyDictionary()
_NONE: dict[bool, list] = {}


def module_of(function: Callable[..., Any]) -> nn.Module | None:
    """The module that a function runs: itself, or the one whose method it is."""
    if isinstance(function, nn.Module):
        return function
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def with_guard(function: Callable[..., Any], extras: Any = None) -> Any:
    """``extras``, guarded where ``function`` runs a module that changes, or may change, its
    buffers.
    """
    module = module_of(function)
    if module is None:
        return extras
    known = _changes.get(module, _NONE).get(module.training)
    if known is not None and not known:
        return extras
    return Guard(module, known, extras)


class Guard:
    """Extras of a region: runs the replay on copies of the buffers that the forward changed."""

    def __init__(self, module: nn.Module, known: list[tuple[weakref.ref, str]] | None,
                 inner: Contexts | None) -> None:
        self._module, self._inner = module, inner
        if known is None:
            places = [(owner, name)
                      for owner in module.modules()
                      for name, b in owner._buffers.items()
                      if b is not None]
        else:
            places = [(owner(), name) for owner, name in known if owner() is not None]
        self._learn = known is None
        self._kept = [(owner, name, owner._buffers[name].detach().clone()) for owner, name in places
                     ]

    def _call(self, phase: str, function: Callable[..., Any], arguments: tuple[Any, ...],
              keywords: dict | None) -> Any:
        if self._inner is not None:
            return getattr(self._inner, phase)(function, arguments, keywords)
        return function(*arguments, **(keywords or {}))

    def forward(self, function: Callable[..., Any], arguments: tuple[Any, ...],
                keywords: dict | None) -> Any:
        """The region's forward; the first one learns what it changes. By value: BatchNorm counts no
        version.
        """
        result = self._call("forward", function, arguments, keywords)
        if self._learn:
            self._kept = [
                (owner, name, copy)
                for owner, name, copy in self._kept
                if owner._buffers.get(name) is None or not torch.equal(owner._buffers[name], copy)
            ]
            _changes.setdefault(self._module, {})[self._module.training] = [
                (weakref.ref(owner), name) for owner, name, _ in self._kept]
        return result

    def replay(self, function: Callable[..., Any], arguments: tuple[Any, ...],
               keywords: dict | None) -> Any:
        """The region's replay, on the values that the forward began with."""
        now = [(owner, name, owner._buffers[name]) for owner, name, _ in self._kept]
        for owner, name, copy in self._kept:
            owner._buffers[name] = copy.clone()
        try:
            return self._call("replay", function, arguments, keywords)
        finally:
            for owner, name, buffer in now:
                owner._buffers[name] = buffer

    def measure(self, tensor: torch.Tensor) -> Any:
        """As the extras inside."""
        return self._inner.measure(tensor) if self._inner is not None else None

    def explain(self, error: Any, module: Any, mismatches: list | None) -> Any:
        """As the extras inside."""
        return self._inner.explain(error, module, mismatches) if self._inner is not None else None
