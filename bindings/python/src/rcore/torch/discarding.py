# rcore/torch/discarding.py: functions whose outputs are freed once read, and made again for the backward of their readers.
"""discard_output() and discards()."""
from __future__ import annotations

import contextlib
import functools
import weakref
from typing import Any, Callable, Iterator

import torch
from torch.utils._pytree import tree_leaves

from rcore import _core
from rcore.errors import Error
from rcore.torch.engine import Flag, discard_module

__all__ = ["DiscardedOutput", "discard_output", "discards"]

_FLAGS = int(Flag.PRESERVE_RNG | Flag.EARLY_STOP | Flag.CHECK_HEADERS | Flag.DISCARDS)


@contextlib.contextmanager
def discards() -> Iterator[None]:
    """The scope in which outputs of ``discard_output`` functions are read.

    What reads such an output inside does not keep it: its graph remembers where the value comes from. So the output is
    freed with the last reference of the program to it, and made again when the backward of a reader asks for it. No
    tensor has to be named, and nobody can read freed memory.
    """
    scope = _core.make_scope()
    with scope:
        yield


#: What looks at a tensor without looking at its memory.
_HARMLESS = frozenset(("__get__", "__hash__", "dim", "element_size", "is_floating_point", "numel", "register_hook", "size",
                       "storage_offset", "stride", "untyped_storage"))


class _Read:
    """What a discarded tensor is while its memory is gone."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        if name in _HARMLESS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise Error(f"rcore.torch: {name}() reads an output that was discarded; it is there again in backward only. Read it "
                    "before discard(), or clone it", "RC_E_STATE")


class Discarded(_Read, torch.Tensor):
    """A tensor whose storage holds 0 bytes until its readers' backward. Every use of it is an error."""


class DiscardedOutput:
    """A function whose outputs are discarded; what ``discard_output`` returns."""

    def __init__(self, function: Callable[..., Any], consumer: torch.nn.Module | None = None) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._pending: list[_Pending] = []
        if consumer is not None:
            consumer.register_forward_hook(self._consumed)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function; in an open scope its outputs are dropped by themselves, else by ``discard``."""
        if not torch.is_grad_enabled():
            return self._function(*args, **kwargs)
        if _core.scope_is_open():
            return _core.run_region(discard_module, _FLAGS, None, self._function, args, kwargs)
        regions: list[Any] = []
        outer = _core.collect(regions)
        try:
            result = _core.run_region(discard_module, _FLAGS, None, self._function, args, kwargs)
        finally:
            _core.collect(outer)
        if outer is not None:
            outer.extend(regions)
        self._pending.append(_Pending(regions[-1], args, kwargs, result))
        return result

    def _consumed(self, module: torch.nn.Module, arguments: Any, result: Any) -> None:
        if torch.is_grad_enabled() and self._pending:
            self.discard(*[t for t in tree_leaves(result) if isinstance(t, torch.Tensor) and t.requires_grad])

    def discard(self, *readers: torch.Tensor) -> int:
        """Frees the outputs of the calls so far; their memory is filled again when a gradient of a reader arrives.

        Args:
            *readers: tensors that were computed from the outputs, such that the backward of everything that read them
                comes after a gradient of one of these. No view of the outputs may be read by the program afterwards.

        Returns:
            The bytes that were freed.
        """
        if not readers:
            raise Error("rcore.torch: discard() needs a tensor that was computed from the outputs, or a consumer, or a "
                        "discards() scope", "RC_E_ARGUMENT", "readers")
        pending, self._pending = self._pending, []
        freed = sum(p.empty() for p in pending)

        def refill(gradient: torch.Tensor) -> None:
            for p in pending:
                p.refill()

        for reader in readers:
            reader.register_hook(refill)
        return freed


_emptied: "weakref.WeakValueDictionary[int, _Pending]" = weakref.WeakValueDictionary()


class _Pending:
    """One call's outputs: their memory, and the region that makes it again."""

    def __init__(self, region: Any, args: Any, kwargs: Any, result: Any) -> None:
        self._region = region
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        # An input that is itself discarded is filled first.
        self._before = [p for p in (_emptied.get(i) for i in inputs) if p is not None]
        outputs = result if isinstance(result, tuple) else (result,)
        self._outputs: list[tuple[int, torch.Tensor, torch.UntypedStorage, int]] = []
        seen = set(inputs)
        for index, t in enumerate(outputs):
            if isinstance(t, torch.Tensor) and t.untyped_storage()._cdata not in seen:
                storage = t.untyped_storage()
                seen.add(storage._cdata)
                self._outputs.append((index, t, storage, storage.nbytes()))
        for _, _, storage, _ in self._outputs:
            _emptied[storage._cdata] = self

    def empty(self) -> int:
        freed = 0
        kept = []
        for index, t, storage, nbytes in self._outputs:
            kept.append((index, weakref.ref(t), t.dtype, t.size(), t.stride(), t.storage_offset(), t.__class__, storage, nbytes))
            if storage.nbytes() > 0:
                storage.resize_(0)
                freed += nbytes
            if type(t) is torch.Tensor:
                t.__class__ = Discarded
        self._outputs = []
        self._kept = kept
        return freed

    def refill(self) -> None:
        for p in self._before:
            p.refill()
        if all(storage.nbytes() > 0 for *_, storage, _ in self._kept):
            return
        for index, ref, dtype, size, stride, offset, kind, storage, nbytes in self._kept:
            if storage.nbytes() > 0:
                continue
            value = self._region.output(index)
            storage.resize_(nbytes)
            # Through an alias of its own, so that the version which readers have noted stays.
            with torch.no_grad():
                torch.empty(0, dtype=dtype, device=value.device).set_(storage, offset, size, stride).copy_(value)
            t = ref()
            if t is not None and isinstance(t, Discarded):
                t.__class__ = kind


def discard_output(function: Callable[..., Any], consumer: torch.nn.Module | None = None) -> DiscardedOutput:
    """A function whose outputs do not stay for backward: they are freed once read, and made again from its inputs.

    There are three ways to say when they have been read::

        norm = rcore.torch.discard_output(self.norm)
        with rcore.torch.discards():       # by a scope: nothing is named, nothing can be read too late
            z = self.linear(norm(x))

        norm = rcore.torch.discard_output(self.norm, consumer=self.linear)   # by the module that reads it
        z = self.linear(norm(x))

        y = norm(x); z = self.linear(y)
        norm.discard(z)                    # by a tensor computed from it, as Megatron names its hook tensor

    In the last two the storage of ``y`` is emptied at once, and every use of ``y`` before backward is an error.
    An output that is a view of an input is left alone.

    Args:
        function: a module or function; what it saves for its own backward is not kept either.
        consumer: the module that reads the outputs, all of them, and whose outputs carry the gradient.
    """
    return DiscardedOutput(function, consumer)
