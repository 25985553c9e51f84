# rcore/torch/checkpointing.py: checkpoint and its company, in place of torch.utils.checkpoint.
"""A drop-in for ``torch.utils.checkpoint`` on regions of the core."""
from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.utils.checkpoint import noop_context_fn as _torch_noop_context_fn

from rcore import _core
from rcore.torch import diagnose
from rcore.torch.engine import Flag, checkpoint_module, torch_checkpoint
from rcore.torch.state import with_guard

__all__ = [
    "checkpoint", "checkpoint_sequential", "set_checkpoint_debug_enabled",
    "set_checkpoint_early_stop", "set_verify"
]

ContextFn = Callable[[], tuple[AbstractContextManager, AbstractContextManager]]

_early_stop: bool | None = None  # what set_checkpoint_early_stop says; None = each call's own
_debug: bool | None = None
_verify = False
_untouched = True  # none of the three is set

_run = _core.run_region
_FAST = int(Flag.PRESERVE_RNG | Flag.EARLY_STOP | Flag.CHECK_HEADERS)


def noop_context_fn() -> tuple[AbstractContextManager, AbstractContextManager]:
    """No contexts: the default."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def _flags(preserve_rng_state: bool, early_stop: bool, determinism_check: Any) -> int:
    flags = 0
    if preserve_rng_state:
        flags |= Flag.PRESERVE_RNG
    if _early_stop if _early_stop is not None else early_stop:
        flags |= Flag.EARLY_STOP
    if determinism_check != "none":
        flags |= Flag.CHECK_HEADERS
    return int(flags)


def _slow(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
          context_fn: ContextFn, determinism_check: Any, debug: bool, early_stop: bool,
          preserve_rng_state: bool) -> Any:
    """Everything that is not the default: contexts, checks and logs around the region."""
    flags = _flags(preserve_rng_state, early_stop, determinism_check)
    debug = _debug if _debug is not None else debug
    plain = context_fn is noop_context_fn or context_fn is _torch_noop_context_fn
    if debug and not plain:
        raise ValueError("debug=True is incompatible with non-default context_fn")
    if determinism_check == "verify" or (_verify and determinism_check == "default"):
        measure: Any = diagnose.digest
    elif callable(determinism_check):
        measure = determinism_check
    elif determinism_check in ("default", "none"):
        measure = None
    else:
        raise ValueError(
            "determinism_check should be one of ['default', 'none', 'verify'] or a callable, "
            f"but got {determinism_check}")
    extras: diagnose.Contexts | None = None
    if debug:
        extras = diagnose.Debug(measure)
    elif not plain:
        extras = diagnose.Contexts(*context_fn(), measure)
        flags |= int(Flag.DETACH)
    elif measure is diagnose.digest:
        extras = diagnose.Verify()
    elif measure is not None:
        extras = diagnose.Contexts(*noop_context_fn(), measure)
    if measure is not None:
        flags |= int(Flag.MEASURE)
    extras = with_guard(function, extras, args, kwargs)
    return _run(checkpoint_module, flags, extras, function, args, kwargs)


def _compiled(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
              context_fn: ContextFn, **options: Any) -> Any:
    """Under torch.compile the compiler itself recomputes: torch's own call is what it knows."""
    if context_fn is not noop_context_fn:  # one that is named must make dispatch modes
        options["context_fn"] = context_fn
    return torch_checkpoint(function, *args, use_reentrant=False, **options, **kwargs)


def checkpoint(
    function: Callable[..., Any] | None = None,
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: ContextFn = noop_context_fn,
    determinism_check: str | Callable[[torch.Tensor], Any] = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """Runs ``function(*args, **kwargs)`` without keeping what its backward needs, and runs it again
    to get that.

    The semantics are those of ``torch.utils.checkpoint.checkpoint(..., use_reentrant=False)``: the
    same tensors, the same gradients, the same errors. Without a function it returns a decorator.

    Args:
        function: what to run. In backward it is run again, with the arguments, generators, autocast
            and default device that it was run with.
        *args: its arguments, any objects. Tensors among them must not be changed in place until
            backward.
        use_reentrant: True hands the call to torch's own reentrant implementation. None warns, as
            torch does, and means False.
        context_fn: returns two context managers, for the forward and for its repetition; such as
            ``torch.utils.checkpoint.create_selective_checkpoint_contexts`` makes.
        determinism_check: ``"default"`` compares shape, dtype and device of each tensor with the
            forward's, ``"none"`` nothing, ``"verify"`` compares values too, by digest, and names
            module, tensor and operator where they differ. A callable is called with each tensor,
            and its results are compared.
        debug: on an error, the message has the operators of both runs.
        early_stop: stop the repetition once it has made all that is needed.
        preserve_rng_state: the repetition draws what the forward drew.
        **kwargs: keyword arguments of ``function``.

    Returns:
        What ``function`` returns.

    Raises:
        CheckpointError: in backward, where the repetition did not do what the forward did.
    """
    if (use_reentrant is False and type(function) is FunctionType and preserve_rng_state
            and early_stop and not debug and determinism_check == "default"
            and context_fn is noop_context_fn and _untouched and not is_dynamo_compiling()):
        return _run(checkpoint_module, _FAST, None, function, args, kwargs)
    if function is None:
        return functools.partial(_decorate, use_reentrant=use_reentrant, context_fn=context_fn,
                                 determinism_check=determinism_check, debug=debug,
                                 early_stop=early_stop, preserve_rng_state=preserve_rng_state)
    if is_dynamo_compiling():
        return _compiled(function, args, kwargs, context_fn=context_fn, debug=debug,
                         early_stop=early_stop, preserve_rng_state=preserve_rng_state)
    if use_reentrant is not False:
        if use_reentrant is None:
            _warn_unset()
        elif use_reentrant:
            return _reentrant(function, args, kwargs, context_fn, debug, preserve_rng_state)
    if (preserve_rng_state and early_stop and determinism_check == "default" and not debug
            and context_fn is noop_context_fn and _untouched):
        guard = with_guard(function, None, args, kwargs)
        return _run(checkpoint_module, _FAST, guard, function, args, kwargs)
    return _slow(function, args, kwargs, context_fn, determinism_check, debug, early_stop,
                 preserve_rng_state)


def _warn_unset() -> None:
    warnings.warn(
        "rcore.torch.checkpoint: the use_reentrant parameter should be passed explicitly. Unset "
        "means use_reentrant=False here; torch.utils.checkpoint may take it as True.", stacklevel=3)


def _reentrant(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
               context_fn: ContextFn, debug: bool, preserve_rng_state: bool) -> Any:
    if context_fn is not noop_context_fn or debug:
        raise ValueError(
            "Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    return torch_checkpoint(function, *args, use_reentrant=True,
                            preserve_rng_state=preserve_rng_state, **kwargs)


def _decorate(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(function, *args, **options, **kwargs)

    return wrapper


def checkpoint_sequential(functions: Any, segments: int, input: Any,
                          use_reentrant: bool | None = None, **kwargs: Any) -> Any:
    """Runs a sequence of functions in ``segments`` chunks, each but the last of them a region.

    Args:
        functions: a ``torch.nn.Sequential``, or a list of functions of one argument.
        segments: how many chunks.
        input: the argument of the first function.
        use_reentrant: as for ``checkpoint``.
        **kwargs: ``preserve_rng_state`` and nothing else.

    Returns:
        What the last function returns.
    """
    if use_reentrant is None:
        _warn_unset()
        use_reentrant = False
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if isinstance(functions, torch.nn.Sequential):
        functions = list(functions.children())

    def chunk(start: int, end: int) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for function in functions[start:end]:
                value = function(value)
            return value

        return run

    size = len(functions) // segments
    last = size * (segments - 1)
    for start in range(0, last, size or 1):
        input = checkpoint(chunk(start, start + size), input, use_reentrant=use_reentrant,
                           preserve_rng_state=preserve)
    return chunk(last, len(functions))(input)


def _is_untouched() -> bool:
    return _early_stop is None and _debug is None and not _verify


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Regions begun inside stop early, or do not, whatever their own argument says."""
    global _early_stop, _untouched
    before, _early_stop = _early_stop, enable
    _untouched = _is_untouched()
    try:
        yield
    finally:
        _early_stop = before
        _untouched = _is_untouched()


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """Regions begun inside run with ``debug`` as given; None leaves it to each call."""
    global _debug, _untouched
    before, _debug = _debug, enabled
    _untouched = _is_untouched()
    try:
        yield
    finally:
        _debug = before
        _untouched = _is_untouched()


@contextlib.contextmanager
def set_verify(enable: bool = True) -> Iterator[None]:
    """Regions begun inside compare the values of their replay with the forward's."""
    global _verify, _untouched
    before, _verify = _verify, enable
    _untouched = _is_untouched()
    try:
        yield
    finally:
        _verify = before
        _untouched = _is_untouched()
