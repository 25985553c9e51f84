# rcore/torch/environment.py: the state of torch that a replay must see as its forward saw it, where
# it is not the default.
"""What a replay restores beside the CPU generator: autocast, the default device, and the generators
of devices.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._pytree import tree_leaves

from rcore.errors import Error

__all__ = [
    "Environment", "capture_environment", "has_accelerator", "refuse_sharded",
    "replay_in_environment"
]


def _accelerator() -> str | None:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device.type if device is not None else None


def has_accelerator() -> bool:
    """Whether this process can use a device with a generator of its own."""
    return _accelerator() is not None


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

    def __init__(self, preserve_rng: bool, arguments: tuple[Any, ...],
                 keywords: dict[str, Any] | None) -> None:
        self.device_type = _accelerator()
        self.autocast = [_autocast_of(d) for d in ("cpu", self.device_type) if d is not None]
        self.default_device = next((m for m in reversed(_get_current_function_mode_stack())
                                    if isinstance(m, DeviceContext)), None)
        self.preserve_rng = preserve_rng
        self.generators: list[tuple[int, torch.Tensor]] = []
        self.initialised = False
        if self.device_type is not None:
            module = torch.get_device_module(self.device_type)
            self.initialised = bool(getattr(module, "_initialized", True))
            if preserve_rng and self.initialised:
                devices = {t.device.index for t in tree_leaves((arguments, keywords))
                           if isinstance(t, torch.Tensor) and t.device.type == self.device_type}
                devices.add(module.current_device())
                self.generators = [(d, module.get_rng_state(d)) for d in sorted(devices)]

    def after_forward(self) -> None:
        """Refuses a device that the region itself initialised: its generator could not be captured.
        """
        if self.device_type is None or self.initialised or not self.preserve_rng:
            return
        if getattr(torch.get_device_module(self.device_type), "_initialized", False):
            raise RuntimeError(
                "PyTorch's device state was initialized in the forward pass of a Checkpoint, "
                "which is not allowed. Please open an issue if you need this feature.")

    @contextlib.contextmanager
    def _generators_restored(self) -> Iterator[None]:
        module = torch.get_device_module(self.device_type)
        before = [(d, module.get_rng_state(d)) for d, _ in self.generators]
        try:
            for device, state in self.generators:
                module.set_rng_state(state, device)
            yield
        finally:
            for device, state in before:
                module.set_rng_state(state, device)

    def enter(self, stack: contextlib.ExitStack) -> None:
        """Installs the state until ``stack`` is closed."""
        if self.generators:
            stack.enter_context(self._generators_restored())
        for settings in self.autocast:
            if settings is not None:
                stack.enter_context(torch.amp.autocast(**settings))
        if self.default_device is not None:
            stack.enter_context(self.default_device)


def capture_environment(preserve_rng: bool, arguments: tuple[Any, ...],
                        keywords: dict[str, Any] | None) -> Environment:
    """Called by the extension where something is not at its default."""
    return Environment(preserve_rng, arguments, keywords)


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
