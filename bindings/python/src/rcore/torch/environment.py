# rcore/torch/environment.py: the state of torch that a replay must see as its forward saw it, where
# it is not the default.
"""What a replay restores beside the CPU's generator: autocast and the default device; and where the
extension finds the generators of devices.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._pytree import tree_leaves

from rcore.errors import Error

__all__ = [
    "Environment", "capture_environment", "device_generators", "device_module", "devices_of",
    "refuse_sharded", "replay_in_environment"
]


def _accelerator() -> str | None:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device is not None else None


def device_module() -> Any:
    """The module of this process's accelerator, such as ``torch.cuda``; None without one."""
    device = _accelerator()
    return torch.get_device_module(device) if device is not None else None


def device_generators() -> list[tuple[Callable[[], torch.Tensor], Callable[[torch.Tensor], Any]]]:
    """How to read and set the generator of each device; once the process uses its devices."""
    module = device_module()
    generators = getattr(module, "default_generators", None)
    if generators is None:  # one device, whose module has the functions
        return [(module.get_rng_state, module.set_rng_state)]
    return [(g.get_state, g.set_state) for g in generators]


def devices_of(arguments: tuple[Any, ...], keywords: dict[str, Any] | None) -> list[int]:
    """The current device, and those that hold tensors among the arguments."""
    kind, module = _accelerator(), device_module()
    used = {t.device.index for t in tree_leaves((arguments, keywords))
            if isinstance(t, torch.Tensor) and t.device.type == kind}
    return sorted(used | {module.current_device()})


def _autocast_of(device: str) -> dict[str, Any] | None:
    if not torch.amp.is_autocast_available(device):
        return None
    return {
        "device_type": device,
        "enabled": torch.is_autocast_enabled(device),
        "dtype": torch.get_autocast_dtype(device),
        "cache_enabled": torch.is_autocast_cache_enabled(),
    }


class Environment:
    """The state at the begin of a region."""

    def __init__(self) -> None:
        kinds = ("cpu", _accelerator())
        self.autocast = [_autocast_of(kind) for kind in kinds if kind is not None]
        self.default_device = next((m for m in reversed(_get_current_function_mode_stack())
                                    if isinstance(m, DeviceContext)), None)

    def enter(self, stack: contextlib.ExitStack) -> None:
        """Installs the state until ``stack`` is closed."""
        for settings in self.autocast:
            if settings is not None:
                stack.enter_context(torch.amp.autocast(**settings))
        if self.default_device is not None:
            stack.enter_context(self.default_device)


def capture_environment() -> Environment:
    """Called by the extension where something is not at its default."""
    return Environment()


def _enter_defaults(stack: contextlib.ExitStack) -> None:
    # The forward ran without autocast; the backward is inside it.
    for device in ("cpu", _accelerator()):
        if device is not None and torch.amp.is_autocast_available(device):
            stack.enter_context(torch.amp.autocast(device, enabled=False))


def refuse_sharded(function: Callable[..., Any]) -> None:
    """Refuses a replay ahead of backward of what FSDP2 shards: outside of backward it would gather
    as a forward does.
    """
    owner = function if isinstance(function, torch.nn.Module) else getattr(
        function, "__self__", None)
    if not isinstance(owner, torch.nn.Module):
        return
    for module in owner.modules():
        if hasattr(module, "unshard") and hasattr(module, "reshard"):
            raise Error(
                f"rcore.torch: replay() ahead of backward of {type(module).__name__}, which FSDP2 "
                "shards: outside of backward its parameters are not gathered. Call "
                "module.unshard() first and replay a function that holds no sharded module, or let "
                "backward replay it", "RC_E_UNSUPPORTED")


def replay_in_environment(environment: Environment | None, extras: Any, module: Any,
                          function: Callable[..., Any], arguments: tuple[Any, ...],
                          keywords: dict[str, Any] | None) -> Any:
    """Calls ``function`` again as the forward was called; by the extension, where the fast path
    does not do.
    """
    with contextlib.ExitStack() as stack:
        if environment is not None:
            environment.enter(stack)
        elif torch._C._is_any_autocast_enabled():
            _enter_defaults(stack)
        if torch.autograd._profiler_enabled():
            stack.enter_context(torch.profiler.record_function(f"rcore.replay {module.name}"))
        if extras is not None:
            return extras.replay(function, arguments, keywords)
        return function(*arguments, **(keywords or {}))
