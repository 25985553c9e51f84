# rcore/torch/budgeted.py: a model whose policy is planned from its own warm-up steps.
"""Stands in for the forward of a model under ``Policy.budget``."""
from __future__ import annotations

import functools
import threading
import warnings
from typing import Any
from collections.abc import Callable

import torch
from torch import nn
from torch.compiler import is_compiling
from torch.utils._pytree import tree_leaves

from rcore.torch.applied import Applied
from rcore.torch.budget import Plan, plan_within
from rcore.torch.forecast import Forecast
from rcore.torch.hooks import is_inside_region, saving
from rcore.torch.measuring import Meter
from rcore.torch.observing import Observer
from rcore.torch.policy import Policy

__all__ = ["Budgeted"]

Signature = tuple


def _signature(model: nn.Module, inputs: Any) -> Signature:
    tensors = tuple((tuple(t.shape), t.dtype, t.requires_grad)
                    for t in tree_leaves(inputs)
                    if isinstance(t, torch.Tensor))
    autocast = torch.is_autocast_enabled(
        torch._C._get_accelerator().type) or torch.is_autocast_enabled("cpu")
    return model.training, autocast, tensors


class Budgeted:
    """The first forward of each shape of inputs is the warm-up: its layers are recomputed, and what
    they save is recorded.

    A plan is made at its end and holds for the forwards of that shape from the next one on. The
    first of these is measured.

    Attributes:
        plans: what was planned, by the shape of the inputs.
        measured: the most saved bytes, where it was measured.
    """

    def __init__(self, applied: Applied, model: nn.Module, limit: int | float) -> None:
        self._applied, self._model, self._limit = applied, model, limit
        self._original: Callable[..., Any] = model.forward
        functools.update_wrapper(self, self._original, updated=())
        self.plans: dict[Signature, Plan] = {}
        self.measured: dict[Signature, int] = {}
        self._adopted: Signature | None = None
        self._meter: tuple[Signature, Meter] | None = None
        self._thread = 0  # that is measured

    def __reduce__(self) -> tuple:
        return getattr, (self._model, "forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's forward: observed, measured, or as planned."""
        if is_compiling():
            self.settle()
            return self._original(*args, **kwargs)
        if (not torch.is_grad_enabled() or self._applied.observer is not None
                or is_inside_region()):
            return self._original(*args, **kwargs)
        if self._meter is None or self._thread == threading.get_ident():
            self.read_meter(stop=True)
        signature = _signature(self._model, (args, kwargs))
        plan = self.plans.get(signature)
        if plan is None:
            return self._observe(signature, args, kwargs)
        self._adopt(signature)
        if signature in self.measured or Meter.running() is not None:
            return self._original(*args, **kwargs)
        meter = Meter(self._model, yields=True)
        self._meter, self._thread = (signature, meter), threading.get_ident()
        try:
            return meter.run(self._original, args, kwargs)
        except BaseException:
            self._meter = None
            meter.stop()
            raise

    def _adopt(self, signature: Signature) -> None:
        if self._adopted == signature:
            return
        settings = self.plans[signature].settings
        self._applied.adopt(Policy(**{k: v for k, v in settings.items() if k != "rcore_policy"}))
        self._adopted = signature

    def settle(self) -> bool:
        """Called by the compiler while it traces, once for a graph: the last plan is the one that
        is compiled.

        Nothing can be measured inside a graph. Without a plan the graph recomputes what the warm-up
        does, and a warning says so.
        """
        if self.plans:
            self._adopt(next(reversed(self.plans)))
        else:
            warnings.warn(
                "rcore.torch: a budget is planned from a forward that is not compiled, and there "
                "was none: this graph recomputes every layer. Run one forward and backward of the "
                "model itself before torch.compile's", RuntimeWarning, stacklevel=2)
        return bool(self.plans)

    # What torch.compiler.assume_constant_result() does; that would import the compiler, for
    # seconds, where nobody uses it.
    settle._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _observe(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._adopted is not None:
            self._applied.adopt(self._applied.warm_up())
            self._adopted = None
        observer = Observer(self._model, (args, kwargs))
        self._applied.observer = observer
        try:
            with saving(observer.look):
                result = self._original(*args, **kwargs)
        finally:
            self._applied.observer = None
            observed = observer.finish()
        self.plans[signature] = plan_within(self._limit,
                                            Forecast(observed, self._applied.discarding_kinds()))
        return result

    def read_meter(self, stop: bool = False) -> None:
        """Takes over what the meter of the first planned step says."""
        if self._meter is None:
            return
        signature, meter = self._meter
        self.measured[signature] = meter.peak()
        if not stop:
            return
        self._meter = None
        measured, plan = meter.stop(), self.plans[signature]
        if measured > plan.budget_bytes:
            warnings.warn(
                f"rcore.torch: a step held {measured} saved bytes; its budget is "
                f"{plan.budget_bytes}, and {plan.predicted_bytes} were "
                "predicted", RuntimeWarning, stacklevel=3)

    def close(self) -> None:
        """Ends what is measured."""
        self.read_meter(stop=True)

    def describe(self) -> dict[str, Any] | None:
        """For the report: the plan that holds now, or the last one."""
        self.read_meter()
        signature = self._adopted if self._adopted is not None else next(reversed(self.plans), None)
        if signature is None:
            return None
        plan = self.plans[signature]
        return {
            "budget_bytes": plan.budget_bytes, "predicted_bytes": plan.predicted_bytes,
            "keep_all_bytes": plan.keep_all_bytes, "measured_bytes": self.measured.get(signature),
            "replay_seconds": plan.replay_seconds, "rules": plan.settings["rules"]
        }
