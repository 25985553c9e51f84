# rcore/torch/state.py: buffers that a forward changes are changed once, and a replay sees them as
# the forward did.
"""Module state across the two runs of a region.

BatchNorm's statistics, amax histories and scales, counters of expert load: a module that changes
its own buffers would change them again in a replay, and read values that its forward had not seen.
A region that runs a module keeps copies of the buffers that the module is known to change; its
replay works on these.
"""
from __future__ import annotations

import contextlib
import functools
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
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


def _buffer(owner: nn.Module, name: str) -> torch.Tensor | None:
    buffers = owner._buffers  # of a scripted module it has no get()
    return buffers[name] if name in buffers else None


def _changed(owner: nn.Module, name: str, before: torch.Tensor) -> bool | None:
    """By value, as BatchNorm counts no version. None where values cannot be looked at: on the meta
    device, and where a tracer runs.
    """
    now = _buffer(owner, name)
    if now is None:
        return True
    try:
        return not torch.equal(now, before)
    except Exception:  # each tracer has its own
        return None


_GONE = object()


class _ThreadsBuffers(MutableMapping[str, Any]):
    """Stands for the dict of buffers of a module that several threads train, while replays run it:
    each thread sees those of its own replay, all others the module's.
    """

    def __init__(self, buffers: dict[str, Any]) -> None:
        self.buffers = buffers
        self.own: dict[int, list[dict[str, Any]]] = {}  # by thread; the innermost replay's last

    def _where(self, name: str) -> dict[str, Any]:
        for own in reversed(self.own.get(threading.get_ident(), ())):
            if name in own:
                return own
        return self.buffers

    def __getitem__(self, name: str) -> Any:
        value = self._where(name)[name]
        if value is _GONE:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._where(name)[name] = value

    def __delitem__(self, name: str) -> None:
        where = self._where(name)
        if where is self.buffers:
            del where[name]
        else:
            where[name] = _GONE

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in self.buffers if name in self])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def copy(self) -> dict[str, Any]:
        """As a dict's."""
        return dict(self)

    def __reduce__(self) -> tuple:
        return dict, (dict(self),)


_exchange = threading.Lock()

#: The thread whose regions run a module that changes its buffers; 0 where they are several.
_threads: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def _note_thread(owner: nn.Module) -> None:
    thread = threading.get_ident()
    if _threads.setdefault(owner, thread) != thread:
        _threads[owner] = 0


@contextlib.contextmanager
def _buffers_are(owner: nn.Module, own: dict[str, Any]) -> Iterator[None]:
    """This thread's replay sees `own` among the buffers of a module. Where no other thread trains
    it they lie in the module's own dict, which compiled code looks into.
    """
    buffers = owner._buffers
    if _threads.get(owner) != 0 or not isinstance(buffers, (dict, _ThreadsBuffers)):
        before = {name: buffers[name] for name in own}
        for name, value in own.items():
            buffers[name] = value
        try:
            yield
        finally:
            for name, value in before.items():
                owner._buffers[name] = value
        return
    thread = threading.get_ident()
    with _exchange:
        view = owner.__dict__["_buffers"]
        if not isinstance(view, _ThreadsBuffers):
            view = owner.__dict__["_buffers"] = _ThreadsBuffers(view)
        view.own.setdefault(thread, []).append(own)
    try:
        yield
    finally:
        with _exchange:
            view.own[thread].pop()
            if not view.own[thread]:
                del view.own[thread]
            if not view.own and owner.__dict__["_buffers"] is view:
                owner.__dict__["_buffers"] = view.buffers


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
                              if owner is not None and _buffer(owner, name) is not None)
        self._kept = [(owner, name, owner._buffers[name].detach().clone())
                      for owner, name in (*self._sure, *places.keys() - self._sure)]

    def _call(self, phase: str, function: Callable[..., Any], arguments: tuple[Any, ...],
              keywords: dict | None) -> Any:
        if self._inner is not None:
            return getattr(self._inner, phase)(function, arguments, keywords)
        return function(*arguments, **(keywords or {}))

    def forward(self, function: Callable[..., Any], arguments: tuple[Any, ...],
                keywords: dict | None) -> Any:
        """The region's forward; the first one learns what it changes."""
        for owner, _, _ in self._kept:
            _note_thread(owner)
        result = self._call("forward", function, arguments, keywords)
        if self._learn:
            learned = [(place, (place[0], place[1]) in self._sure or _changed(*place))
                       for place in self._kept]
            self._kept = [place for place, changed in learned if changed is not False]
            if any(changed is None for _, changed in learned):
                return result  # another forward will learn it
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
        own: dict[nn.Module, dict[str, Any]] = {}
        for owner, name, copy in self._kept:
            own.setdefault(owner, {})[name] = copy.clone()
        with contextlib.ExitStack() as stack:
            for owner, buffers in own.items():
                stack.enter_context(_buffers_are(owner, buffers))
            return self._call("replay", function, arguments, keywords)

    def measure(self, tensor: torch.Tensor) -> Any:
        """As the extras inside."""
        return self._inner.measure(tensor) if self._inner is not None else None

    def explain(self, error: Any, module: Any, mismatches: list | None) -> Any:
        """As the extras inside."""
        return self._inner.explain(error, module, mismatches) if self._inner is not None else None
