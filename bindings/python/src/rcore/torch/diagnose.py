# rcore/torch/diagnose.py: what surrounds the two runs of a region that is to be explained:
# contexts, logs, digests.
"""Contexts around a region's forward and replay, and errors that say where the two differ."""
from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rcore.torch.errors import CheckpointError

__all__ = ["Contexts", "Debug", "Digest", "Verify", "digest"]

#: Operators and stack entries that a log keeps; diagnostics must end.
MAX_OPERATORS = 2000
MAX_STACK = 8

Measure = Callable[[torch.Tensor], Any] | None


@dataclasses.dataclass(frozen=True)
class Digest:
    """Sixteen hex digits of a tensor's bytes. Equal if the bytes are."""

    value: str

    def __str__(self) -> str:
        return f"digest {self.value}"


def digest(tensor: torch.Tensor) -> Digest:
    """The digest of a tensor's values."""
    plain = tensor.detach()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    plain = plain.resolve_conj().resolve_neg().cpu().contiguous()
    content = ctypes.string_at(plain.data_ptr(),
                               plain.numel() * plain.element_size()) if plain.numel() else b""
    return Digest(hashlib.blake2b(content, digest_size=8).hexdigest())


class Contexts:
    """Runs the forward in one context manager and the replay in another."""

    def __init__(self, forward: AbstractContextManager, replay: AbstractContextManager,
                 measure: Measure = None) -> None:
        self._forward, self._replay, self._measure = forward, replay, measure

    def forward(self, function: Callable[..., Any], arguments: tuple[Any, ...],
                keywords: dict | None) -> Any:
        """The region's forward."""
        failed = True
        with self._forward:
            result = function(*arguments, **(keywords or {}))
            failed = False
        if failed:
            raise RuntimeError(
                "torch.utils.checkpoint: the forward context provided by context_fn suppressed an "
                "exception raised during the checkpointed forward. This is not supported because "
                "checkpoint cannot return a value for a failed forward.")
        return result

    def replay(self, function: Callable[..., Any], arguments: tuple[Any, ...],
               keywords: dict | None) -> Any:
        """The region's replay."""
        with self._replay:
            return function(*arguments, **(keywords or {}))

    def measure(self, tensor: torch.Tensor) -> Any:
        """What is compared of a saved tensor."""
        if self._measure is None:
            return None
        with torch.no_grad():
            return self._measure(tensor)

    def explain(self, error: CheckpointError, module: Any,
                mismatches: list | None) -> CheckpointError | None:
        """A better error than ``error``, or None."""
        return None


class _Log(TorchDispatchMode):
    """Names the operators that run under it, up to a bound."""

    def __init__(self, stacks: bool) -> None:
        super().__init__()
        self._with_stacks = stacks
        self.clear()

    def clear(self) -> None:
        self.operators: list[str] = []
        self.stacks: list[list[str]] = []
        self.count = 0
        self.makers: dict[int, str] = {}  # address -> the operator that wrote there last
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.paused:
            return out
        self.count += 1
        results = out if isinstance(out, (tuple, list)) else (out,)
        for t in results:
            if type(t) is torch.Tensor and t.layout is torch.strided and t.device.type != "meta":
                self.makers[t.data_ptr()] = str(func)
        if len(self.operators) < MAX_OPERATORS:
            self.operators.append(str(func))
            if self._with_stacks:
                lines = traceback.extract_stack(limit=MAX_STACK + 1)[:-1]
                self.stacks.append([f"{f.filename}:{f.lineno}:{f.name}" for f in lines])
        return out


class Debug(Contexts):
    """Logs the operators of both runs for the message of an error."""

    def __init__(self, measure: Measure = None) -> None:
        self.first, self.second = _Log(stacks=True), _Log(stacks=True)
        super().__init__(self.first, self.second, measure)

    def replay(self, function: Callable[..., Any], arguments: tuple[Any, ...],
               keywords: dict | None) -> Any:
        """The region's replay, in a log that it has for itself."""
        self.second.clear()
        return super().replay(function, arguments, keywords)

    def explain(self, error: CheckpointError, module: Any,
                mismatches: list | None) -> CheckpointError | None:
        """The error with the operators of both runs."""

        def stacks(label: str, log: _Log) -> str:
            return "\n\n".join(f"{name}   ({i + 1} of {log.count} in {label})\n" + "\n".join(stack)
                               for i, (name, stack) in enumerate(zip(log.operators, log.stacks)))

        return CheckpointError(
            "An error happened while unpacking tensors; dumping logs of latest computation "
            "because you passed "
            "`debug=True` to checkpoint().\n\n"
            f"1. Stack traces of the operators that ran in the original "
            f"forward\n\n{stacks('original', self.first)}\n\n"
            f"2. Stack traces of the operators that ran during "
            f"recomputation\n\n{stacks('recompute', self.second)}\n\n"
            "3. Log of operators in the original forward and recomputation\n\n"
            "Operations executed during the original forward:\n\n" +
            "\n".join(self.first.operators) + "\n\nOperations executed during recomputation:\n\n" +
            "\n".join(self.second.operators) +
            "\n\nERROR: Detected non-determinism while running activation checkpointing\n" +
            str(error))


class Verify(Contexts):
    """Compares saved values by digest and names the operators that made those that differ."""

    def __init__(self) -> None:
        self.log = _Log(stacks=False)
        self._names: list[str] = []
        self._in_forward = True
        super().__init__(self.log, self.log, digest)

    def forward(self, function: Callable[..., Any], arguments: tuple[Any, ...],
                keywords: dict | None) -> Any:
        """The region's forward; notes which operator made what is saved."""
        result = super().forward(function, arguments, keywords)
        self._in_forward = False
        self.log.makers = {}
        return result

    def measure(self, tensor: torch.Tensor) -> Any:
        """The digest of a saved tensor."""
        if self._in_forward:
            maker = self.log.makers.get(
                tensor.data_ptr()) if tensor.layout is torch.strided else None
            self._names.append(f"made by {maker}" if maker else "made before the region")
        self.log.paused = True
        try:
            return super().measure(tensor)
        finally:
            self.log.paused = False

    def explain(self, error: CheckpointError, module: Any,
                mismatches: list | None) -> CheckpointError | None:
        """The error with the tensors that differ, where there are any."""
        if not mismatches or not isinstance(mismatches[0][1], Digest):
            return None
        lines = [
            f"saved tensor {i}, {self._names[i]}: {was} in forward, {now} in replay"
            for i, was, now in mismatches[:8]
        ]
        more = f"\n... and {len(mismatches) - 8} more" if len(mismatches) > 8 else ""
        return CheckpointError(
            f"rcore.torch: replay of module '{module.name}' (kind {module.kind}, layer "
            f"{module.layer}) gave other values "
            "than its forward:\n" + "\n".join(lines) + more, status="RC_E_MISMATCH")
