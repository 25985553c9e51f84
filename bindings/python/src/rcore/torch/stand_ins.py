# rcore/torch/stand_ins.py: what is called in place of a module's method or of an attention
# function, and runs it as a region.
"""The regions that a policy puts in place."""
from __future__ import annotations

import functools
import sys
import warnings
import weakref
from typing import Any, Protocol
from collections.abc import Callable

import torch
from torch import nn
from torch.compiler import is_compiling

from rcore import _core
from rcore.torch import checkpointing, diagnose
from rcore.torch.engine import Flag, torch_checkpoint
from rcore.torch.models import Place
from rcore.torch.observing import Observer
from rcore.torch.state import with_guard

__all__ = ["AttentionFunction", "AttentionRegion", "Owner", "Region", "attention_functions",
           "release_attention"]

_CACHES = ("past_key_values", "past_key_value", "layer_past")
_FLAGS = int(Flag.PRESERVE_RNG | Flag.EARLY_STOP | Flag.CHECK_HEADERS | Flag.BY_POLICY)


class Owner(Protocol):
    """The policy on the model that a region belongs to."""

    observer: Observer | None

    def module_of(self, place: Place) -> _core.Module:
        """The core's module of a place."""

    def discards_in(self, layer: int) -> bool:
        """Whether any output in that layer is discarded."""


class _Gathered:
    """A layer's forward that can be replayed for the layer behind it, before its own backward.

    FSDP2 gathers the parameters of a layer around its call and just before its backward; a chunk of
    layers is replayed at once, by their methods, in the backward of its last one.
    """

    def __init__(self, module: nn.Module, original: Callable[..., Any]) -> None:
        self.__self__, self._original = module, original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _core.is_replaying() and hasattr(self.__self__, "unshard"):
            self.__self__.unshard()  # the end of its backward frees them again
        return self._original(*args, **kwargs)


class Region:
    """Stands in for one method of one module and runs it as a region; pickled and copied, it is the
    method itself.
    """

    def __init__(self, applied: Owner, place: Place, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original, updated=())
        self._applied, self._place, self._original = applied, place, original
        self._is_layer = place.kind == "layer"
        self.adopt()

    def adopt(self) -> None:
        """Runs as the policy says that is applied now."""
        self._module = self._applied.module_of(self._place)
        in_chunk = self._is_layer and self._module.unit_layers > 1
        self._function = (_Gathered(self._place.module, self._original)
                          if in_chunk else self._original)
        self._flags = _FLAGS | (int(Flag.DISCARDS)
                                if self._module.discards and not self._is_layer else 0)
        # What is inside a layer that is recomputed as a whole is discarded with it.
        self._scope = self._is_layer and not self._module.recomputes and self._applied.discards_in(
            self._place.layer)

    def __reduce__(self) -> tuple:
        return getattr, (self._place.module, self._place.method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The place's own call, as the policy has it run."""
        if is_compiling():
            return self._compiled(*args, **kwargs)
        if not torch.is_grad_enabled():
            return _core.run_region(self._module, self._flags, None, self._original, args, kwargs)
        observer = self._applied.observer
        if observer is not None and observer.is_of_this_thread():
            return self._observed(observer, args, kwargs)
        return self._run(args, kwargs)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], extras: Any = None) -> Any:
        if self._scope:
            with _core.make_scope():
                return self._original(*args, **kwargs)
        flags = self._flags
        if self._module.recomputes:
            if self._is_layer:
                _drop_caches(kwargs)
            if extras is None and checkpointing._verify:
                extras = diagnose.Verify()
            if extras is not None:
                flags |= int(Flag.MEASURE)
            extras = with_guard(self._original, extras)
        return _core.run_region(self._module, flags, extras, self._function, args, kwargs)

    def _observed(self, observer: Observer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begins = self._module.recomputes and not observer.is_in_region()
        at = observer.enter(self._place, (args, kwargs), begins)
        result = None
        try:
            result = self._run(args, kwargs, observer if begins else None)
            return result
        finally:
            observer.leave(at, result)

    def _compiled(self, *args: Any, **kwargs: Any) -> Any:
        # A layer may be one of a chunk, whose outputs go: to the compiler each layer is a region of
        # its own.
        if self._module.recomputes and (self._is_layer or not self._module.discards):
            return torch_checkpoint(self._original, *args, use_reentrant=False, **kwargs)
        return self._original(*args, **kwargs)


def _drop_caches(kwargs: dict[str, Any]) -> None:
    """A key-value cache that a layer fills would be filled again by its replay."""
    for name in _CACHES:
        if kwargs.get(name) is not None:
            warnings.warn(
                f"rcore.torch: '{name}' is not passed to a layer that is recomputed; set "
                "use_cache=False to silence this", stacklevel=4)
            kwargs[name] = None


class AttentionRegion(Region):
    """The region of one module's attention function; a copy of the module has none."""

    def __reduce__(self) -> tuple:
        return type(None), ()


class AttentionFunction:
    """Stands in for an attention function of transformers: modules that a policy names run it as a
    region.

    The region lies with the module: what the compiler guards is then the module's own.
    """

    def __init__(self, name: str, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original, updated=())
        self.original = original
        self.attribute = f"_rcore_attention_{name}"
        self.users: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def __reduce__(self) -> tuple:
        return getattr, (sys.modules[self.original.__module__], self.original.__name__)

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The attention of a module: in its region, where it has one."""
        region = module.__dict__.get(self.attribute)
        if region is None:
            return self.original(module, *args, **kwargs)
        return region(module, *args, **kwargs)


_Place = tuple[str, str]
_attention_places: dict[_Place, tuple[AttentionFunction, Callable[[], None]]] = {}


def attention_functions(module: nn.Module) -> list[AttentionFunction]:
    """All that the module may call: its eager one, and those that its config may come to name."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    functions = []
    source = sys.modules[type(module).__module__]
    if getattr(source, "eager_attention_forward", None) is not None:
        functions.append(_stand_in((source.__name__, "eager"),
                                   lambda: source.eager_attention_forward,
                                   lambda f: setattr(source, "eager_attention_forward", f)))
    for name in ALL_ATTENTION_FUNCTIONS.valid_keys():
        functions.append(_stand_in(("transformers", name),
                                   functools.partial(ALL_ATTENTION_FUNCTIONS.__getitem__, name),
                                   functools.partial(ALL_ATTENTION_FUNCTIONS.register, name)))
    return functions


def _stand_in(key: _Place, get: Callable[[], Any], put: Callable[[Any], None]) -> AttentionFunction:
    original = get()
    if isinstance(original, AttentionFunction):
        return original
    function = AttentionFunction(key[1], original)  # anew, where the program has put its own

    def restore() -> None:
        if get() is function:
            put(original)

    put(function)
    _attention_places[key] = (function, restore)
    return function


def release_attention(function: AttentionFunction, module: nn.Module) -> None:
    """Takes a module's region away; with the last one, the stand-in itself."""
    function.users.discard(module)
    if function.users:
        return
    for key, (stand_in, restore) in list(_attention_places.items()):
        if stand_in is function:
            restore()
            del _attention_places[key]
