# rcore/torch/state.py: buffers that a forward changes are changed once, and a replay sees them as
# the forward did.
"""Module state across the two runs of a region.

BatchNorm's statistics, amax histories and scales, counters of expert load: a module that changes
its own buffers would change them again in a replay, and read values that its forward had not seen.
A region that runs a module keeps copies of the buffers that the module is known to change; its
replay works on these.
"""
from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from rcore import _core
from rcore.torch.diagnose import Contexts

__all__ = ["Guard", "guard_function", "module_of", "with_guard"]

_Places = list[tuple[weakref.ref[nn.Module], str]]

#: What a region that runs a module does to it: (in training, the code that runs it, numbers and
#: names that it is called with) -> the buffers that it changes, as (submodule, name); learned in
#: the first such region. The code is held, as its address is the key.
_Key = tuple[bool, int, tuple[Any, ...]]
_changes: weakref.WeakKeyDictionary[nn.Module, dict[_Key, tuple[Any, _Places]]]
_changes = weakref.WeakKeyDictionary()
_NONE: dict[_Key, tuple[Any, _Places]] = {}
_WHOLE = {True: (True, 0, ()), False: (False, 0, ())}

#: A module that is called in more ways is watched for all that any of them has changed.
_WAYS = 64
_SCALARS = (bool, int, str, type(None))


def module_of(function: Callable[..., Any]) -> nn.Module | None:
    """The module that a function runs: itself, or the one whose method it is."""
    if isinstance(function, nn.Module):
        return function
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def with_guard(function: Callable[..., Any], extras: Any = None,
               args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None) -> Any:
    """``extras``, guarded where ``function`` runs a module that changes, or may change, its
    buffers.

    Args:
        function: a module, the forward of one, or anything else that is called.
        extras: of the region.
        args, kwargs: what else may say which modules run; None where it runs its own alone.
    """
    if extras is None and type(function) is types.FunctionType:
        return None  # the extension asks about it itself, of every region
    if _core.is_quiet(function, args or (), kwargs):
        return extras
    module = module_of(function)
    if args is not None and not (isinstance(function, nn.Module) and _are_tensors(args, kwargs)):
        guard = guard_function(function, args, kwargs, extras)
        return extras if guard is None else guard
    if module is None:
        return extras
    if _has_no_buffers(module):
        return extras
    known = _changes.get(module, _NONE).get(_WHOLE[module.training])
    if known is not None and not known[1]:
        return extras
    return Guard({module: _WHOLE[module.training]}, None, extras)


def _has_no_buffers(module: nn.Module) -> bool:
    if next(module.buffers(), None) is not None:
        return False
    _core.note_quiet(module)
    return True


def _are_tensors(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    for value in args:
        if not isinstance(value, torch.Tensor):
            return False
    return not kwargs


def _reached(function: Any) -> Iterator[Any]:
    """What a function has at hand, beside its arguments."""
    if isinstance(function, functools.partial):
        yield from (function.func, *function.args, *function.keywords.values())
    elif isinstance(function, types.MethodType):
        yield function.__self__
        yield function.__func__
    else:
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        names = function.__globals__
        yield from (names[n] for n in function.__code__.co_names
                    if isinstance(names.get(n), nn.Module))


def _look(values: Iterable[Any], modules: dict[nn.Module, None], scalars: list[Any],
          depth: int) -> None:
    """Adds the modules in some values, and the numbers and names that may choose among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            continue
        if isinstance(value, nn.Module):
            modules[value] = None
        elif isinstance(value, _SCALARS):
            scalars.append(value)
        elif depth == 0:
            continue
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            _look(_reached(value), modules, scalars, depth - 1)
        elif isinstance(value, (list, tuple)):
            _look(value, modules, scalars, depth - 1)
        elif isinstance(value, dict):
            _look(value.values(), modules, scalars, depth - 1)
        elif not isinstance(value, type):
            held = getattr(value, "__dict__", {}).values()
            modules.update((m, None) for m in held if isinstance(m, nn.Module))


def guard_function(function: Callable[..., Any], args: tuple[Any, ...],
                   kwargs: dict[str, Any] | None = None, extras: Any = None) -> Guard | None:
    """A guard of the modules that a function is called with, or has at hand, if any may change its
    buffers.
    """
    modules: dict[nn.Module, None] = {}
    scalars: list[Any] = []
    _look((function, *args, *(kwargs or {}).values()), modules, scalars, 4)
    if not modules:
        return None
    code = getattr(getattr(function, "func", function), "__code__", None)
    way = id(code), tuple(scalars)
    watched = {}
    for module in modules:
        if _has_no_buffers(module):
            continue
        key = (module.training, *way)
        known = _changes.get(module, _NONE).get(key)
        if known is None or known[1]:
            watched[module] = key
    return Guard(watched, code, extras) if watched else None


def _changed(owner: nn.Module, name: str, before: torch.Tensor) -> bool:
    now = owner._buffers.get(name)
    return now is None or not torch.equal(now, before)


class Guard:
    """Extras of a region: runs the replay on copies of the buffers that the forward changed."""

    def __init__(self, modules: dict[nn.Module, _Key], code: Any, inner: Contexts | None) -> None:
        self._inner, self._code = inner, code
        self._learn: list[tuple[nn.Module, _Key]] = []
        places: dict[tuple[nn.Module, str], None] = {}
        self._sure: set[tuple[nn.Module, str]] = set()  # of modules that are known
        for module, key in modules.items():
            ways = _changes.setdefault(module, {})
            if key in ways:
                changed = ways[key][1]
            elif len(ways) >= _WAYS:
                changed = [place for _, found in ways.values() for place in found]
            else:
                self._learn.append((module, key))
                places.update(((owner, name), None)
                              for owner in module.modules()
                              for name, b in owner._buffers.items()
                              if b is not None)
                continue
            found = ((ref(), name) for ref, name in changed)
            self._sure.update((owner, name) for owner, name in found
                              if owner is not None and owner._buffers.get(name) is not None)
        self._kept = [(owner, name, owner._buffers[name].detach().clone())
                      for owner, name in (*self._sure, *places.keys() - self._sure)]

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
            self._kept = [(owner, name, copy) for owner, name, copy in self._kept
                          if (owner, name) in self._sure or _changed(owner, name, copy)]
            for module, key in self._learn:
                inside = set(module.modules())
                _changes[module][key] = self._code, [(weakref.ref(owner), name)
                                                     for owner, name, _ in self._kept
                                                     if owner in inside]
            self._learn = []
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
