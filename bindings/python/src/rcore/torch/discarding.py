# rcore/torch/discarding.py: functions whose outputs are freed once read, and made again for the
# backward of their readers.
"""discard_output() and discards()."""
from __future__ import annotations

import contextlib
import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from rcore import _core
from rcore.errors import Error
from rcore.torch.emptied import Discarded, Emptied
from rcore.torch.engine import Flag, discard_module
from rcore.torch.errors import KeptOutputWarning
from rcore.torch.observing import storages_in
from rcore.torch.state import with_guard

__all__ = ["DiscardedOutput", "discard_output", "discards"]

_FLAGS = int(Flag.PRESERVE_RNG | Flag.EARLY_STOP | Flag.CHECK_HEADERS | Flag.DISCARDS)


@contextlib.contextmanager
def discards() -> Iterator[None]:
    """The scope in which outputs of ``discard_output`` functions are read.

    What reads such an output inside does not keep it: its graph remembers where the value comes
        from. So the output is
    freed with the last reference of the program to it, and made again when the backward of a reader
    asks for it. No tensor has to be named, and nobody can read freed memory.
    """
    scope = _core.make_scope()
    with scope:
        yield


class _Freed:
    """What ``discard`` has done so far, of one function and the methods that it becomes."""

    def __init__(self) -> None:
        self.freed_bytes = self.kept_bytes = 0
        self.reasons: list[str] = []


class _Pending(threading.local):
    """The calls whose outputs are still to be discarded: each thread has its own."""

    def __init__(self) -> None:
        self.calls: list[Emptied] = []

    def drop_finished(self) -> None:
        """Lets go of calls whose outputs nobody discarded before their graph was done."""
        self.calls = [call for call in self.calls if call.is_awaited()]


class DiscardedOutput:
    """A function whose outputs are discarded; what ``discard_output`` returns. In the body of a
    class it decorates a method.
    """

    def __init__(self, function: Callable[..., Any],
                 consumer: torch.nn.Module | None = None) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._freed = _Freed()
        self._begin()
        if consumer is not None:
            consumer.register_forward_hook(self._consumed, with_kwargs=True)

    def _begin(self) -> None:
        self._pending = _Pending()
        #: By the object whose method it is.
        self._methods: weakref.WeakKeyDictionary[Any, _Pending] = weakref.WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles know nothing of the calls so far."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_pending", "_methods")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __get__(self, owner: Any, cls: type | None = None) -> DiscardedOutput:
        if owner is None or not hasattr(self._function, "__get__"):
            return self
        method = object.__new__(DiscardedOutput)
        method.__dict__.update(self.__dict__)
        method._function = self._function.__get__(owner, cls)
        method._pending = self._methods.setdefault(owner, _Pending())
        return method

    @property
    def freed_bytes(self) -> int:
        """What ``discard`` has freed so far."""
        return self._freed.freed_bytes

    @property
    def kept_bytes(self) -> int:
        """What it could not free."""
        return self._freed.kept_bytes

    @property
    def reasons(self) -> list[str]:
        """Why not, each once."""
        return self._freed.reasons

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function; in an open scope its outputs are dropped by themselves, else by
        ``discard``.
        """
        if not torch.is_grad_enabled():
            return self._function(*args, **kwargs)
        guard = with_guard(self._function, None, args, kwargs)
        if _core.scope_is_open():
            return _core.run_region(discard_module, _FLAGS, guard, self._function, args, kwargs)
        regions: list[Any] = []
        outer = _core.collect(regions)
        try:
            result = _core.run_region(discard_module, _FLAGS, guard, self._function, args, kwargs)
        finally:
            _core.collect(outer)
        if outer is not None:
            outer.extend(regions)
        self._pending.drop_finished()
        self._pending.calls.append(Emptied(regions[-1], args, kwargs, result))
        return result

    def _consumed(self, module: torch.nn.Module, arguments: Any, keywords: Any,
                  result: Any) -> None:
        if not torch.is_grad_enabled() or not self._pending.calls:
            return
        read = storages_in((arguments, keywords))
        calls = [call for call in self._pending.calls if call.lies_in(read)]
        readers = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        self._discard(calls or self._pending.calls, readers)  # or it read what became of them

    def discard(self, *readers: torch.Tensor) -> int:
        """Frees the outputs of the calls so far; their memory is filled again when a gradient of a
        reader arrives.

        An output is freed only where all that holds its memory is known: the tensor itself, and
            what the graph between
        it and the readers has saved. One that the program still has a view of, that was changed in
        place, or that a graph outside of the readers' saved, keeps its bytes; ``reasons`` says why,
        and a warning does once.

        Args:
            *readers: tensors that were computed from the outputs, and whose graphs hold all that
                has read them. Where none needs a gradient (evaluation), nothing is freed.

        Returns:
            The bytes that were freed.
        """
        if not readers:
            raise Error(
                "rcore.torch: discard() needs a tensor that was computed from the outputs, or a "
                "consumer, or a discards() scope", "RC_E_ARGUMENT", "readers")
        return self._discard(self._pending.calls, readers)

    def _discard(self, pending: list[Emptied], readers: Iterable[torch.Tensor]) -> int:
        self._pending.calls = [call for call in self._pending.calls if call not in pending]
        readers = [r for r in readers if r.requires_grad]
        # Without a gradient no backward will fill them again, and no graph holds them; in the
        # replay of a region around, its backward reads them now.
        if not readers or _core.is_replaying():
            return 0
        freed = 0
        for p in pending:
            freed += p.empty(readers)
            self._freed.kept_bytes += p.kept_bytes
            for reason in p.reasons:
                self._note(reason)
        self._freed.freed_bytes += freed

        def refill(gradient: Any) -> None:
            for p in pending:
                p.refill()

        for reader in readers:
            # Of a view that is itself discarded there is no tensor to hook.
            if isinstance(reader, Discarded) and reader.grad_fn is not None:
                reader.grad_fn.register_prehook(refill)
            else:
                reader.register_hook(refill)
        return freed

    def _note(self, reason: str) -> None:
        if reason in self.reasons:
            return
        self.reasons.append(reason)
        name = getattr(self._function, "__name__", type(self._function).__name__)
        warnings.warn(f"rcore.torch: discard() of {name} frees nothing: {reason}",
                      KeptOutputWarning, stacklevel=4)


def discard_output(function: Callable[..., Any],
                   consumer: torch.nn.Module | None = None) -> DiscardedOutput:
    """A function whose outputs do not stay for backward: they are freed once read, and made again
    from its inputs.

    There are three ways to say when they have been read::

        norm = rcore.torch.discard_output(self.norm)
        with rcore.torch.discards():       # by a scope: nothing is named, nothing can be read too
        late
            z = self.linear(norm(x))

        norm = rcore.torch.discard_output(self.norm, consumer=self.linear)   # by the module that
        reads it z = self.linear(norm(x))

        y = norm(x); z = self.linear(y)
        norm.discard(z)                    # by a tensor computed from it, as Megatron names its
        hook tensor

    In the last two the storage of ``y`` is emptied at once, and every use of ``y`` before backward
    is an error. Where the program has a view of ``y`` by then, ``y`` keeps its bytes. An output
    that is a view of an input is left alone.

    As a decorator it stands before a function or a method. A module stays the attribute that it is,
    so that its parent finds its parameters: wrap it where it is called.

    Args:
        function: a module or function; what it saves for its own backward is not kept either.
        consumer: the module that reads the outputs, all of them, and whose outputs carry the
            gradient.
    """
    return DiscardedOutput(function, consumer)
