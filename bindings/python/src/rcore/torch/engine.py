# rcore/torch/engine.py: hands torch's functions to the extension, and keeps the context of regions
# marked by hand.
"""The extension's hot path, set up for the torch of this process."""
from __future__ import annotations

import enum
import functools
import types
from typing import Any

import torch
from torch._C import _autograd
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from rcore import _core
from rcore.torch import environment, errors, state, tail

__all__ = ["Flag", "checkpoint_module", "discard_module", "exchange_capsule", "stats",
           "torch_checkpoint"]  # the last as it was before a program may put ours in its place


class Flag(enum.IntFlag):
    """How a region is to be run; the numbers of ``src/_core/frame.h``."""

    PRESERVE_RNG = 1
    EARLY_STOP = 2
    CHECK_HEADERS = 4
    MEASURE = 8
    BY_POLICY = 16
    DISCARDS = 32
    DETACH = 64


class _SavedInput(torch.autograd.Function):
    """Keeps one tensor as a saved tensor, for a torch whose SavedTensor cannot be made by hand."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(tensor)
        return anchor.new_empty(0)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> None:
        raise AssertionError("never differentiated")


class _HeldInput:
    """The interface of torch's SavedTensor over the former."""

    def __init__(self, tensor: torch.Tensor) -> None:
        with torch.enable_grad():  # a hook is called without
            self._node = _SavedInput.apply(torch.empty(0, requires_grad=True), tensor)

    def unpack(self) -> torch.Tensor:
        return self._node.grad_fn.saved_tensors[0]


def _make_saved_tensor(tensor: torch.Tensor, is_output: bool) -> _HeldInput:
    return _HeldInput(tensor)


def set_up() -> bool:
    """Hands over what the extension calls; whether it reads headers by torch's capsule."""
    # Older releases had the address as a plain number; those are read through attributes.
    api = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    generator = torch.default_generator
    return _core.setup_torch({
        "is_grad_enabled": torch.is_grad_enabled,
        "set_grad_enabled": torch._C._set_grad_enabled,
        "push_hooks": _autograd._push_saved_tensors_default_hooks,
        "pop_hooks": _autograd._pop_saved_tensors_default_hooks,
        "top_hooks": _autograd._top_saved_tensors_default_hooks,
        "graph_task_id": torch._C._current_graph_task_id,
        "graph_exec_group": getattr(torch._C, "_get_graph_exec_group", lambda: None),
        "make_saved_tensor": getattr(_autograd, "_make_saved_tensor", _make_saved_tensor),
        "is_any_autocast": torch._C._is_any_autocast_enabled,
        "function_modes": torch._C._len_torch_function_stack,
        "dispatch_modes": torch._C._len_torch_dispatch_stack,
        "get_state": generator.get_state,
        "set_state": generator.set_state,
        "capture_environment": environment.capture_environment,
        "replay_in_environment": environment.replay_in_environment,
        "only_returns": tail.only_returns,
        "before_shared_replay": environment.refuse_sharded,
        "profiler_enabled": torch.autograd._profiler_enabled,
        "guard_function": state.guard_function,
        "StopReplay": errors.StopReplay,
        "CheckpointError": errors.CheckpointError,
        "Error": errors.Error,
        "SavedTensor": _autograd.SavedTensor,
        "TensorBase": torch._C.TensorBase,
        "Parameter": torch.nn.Parameter,
        "Module": torch.nn.Module,
        "FunctionType": types.FunctionType,
        "MethodType": types.MethodType,
        "partial": functools.partial,
        "device_module": environment.device_module(),
        "device_generators": environment.device_generators,
        "devices_of": environment.devices_of,
        "dlpack_exchange_api": api if type(api).__name__ == "PyCapsule" else None,
    })


#: Whether tensors' headers are read through torch's exchange capsule.
exchange_capsule: bool = set_up()

_POLICY = _core.make_policy(
    '{"rcore_policy": 1, "kinds": ["checkpoint", {"name": "discard", "discards_output": true}],'
    ' "rules": [{"kind": "checkpoint", "action": "recompute"}, {"kind": "discard", "action": '
    '"recompute"}]}'
)
_CONTEXT = _core.make_context()
_CONTEXT.configure(_POLICY)

#: What ``checkpoint`` runs under: one kind, always recomputed.
checkpoint_module = _core.make_module(_CONTEXT, _POLICY, "checkpoint", "checkpoint", 0)

#: What ``discard_output`` runs under: its outputs go too.
discard_module = _core.make_module(_CONTEXT, _POLICY, "discard", "discard_output", 0)


def stats() -> dict[str, int]:
    """The core's counters for regions marked by hand with ``checkpoint``."""
    return _CONTEXT.stats()
