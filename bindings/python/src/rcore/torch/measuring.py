# rcore/torch/measuring.py: the bytes that a model's graph holds for backward, measured while it
# runs.
"""The meter around a model's forward."""
from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from rcore import _core
from rcore.errors import Error
from rcore.torch.hooks import is_inside_region, saving
from rcore.torch.observing import storages_in, storages_of

__all__ = ["Meter"]


class Meter:
    """Counts what is saved by forwards that run through ``run``, and what replays make again, until
    ``stop``.

    Each storage counts once, with all its bytes, from the first time that something holds it for
    backward to the last. Parameters, buffers and the model's own inputs do not count. There is one
    meter in a process.
    """

    _current: weakref.ref[Meter] | None = None
    _yields: bool

    def __init__(self, model: nn.Module, yields: bool = False) -> None:
        """`yields`: another meter may end this one."""
        other = Meter.running()
        if other is not None and not other._yields:
            raise Error("rcore.torch: the saved bytes of another model are being measured",
                        "RC_E_STATE")
        if other is not None:
            other.stop()
        Meter._current = weakref.ref(self)
        self._yields = yields
        self._peak: int | None = None
        _core.meter_start(list(storages_of([*model.parameters(), *model.buffers()])))

    @classmethod
    def running(cls) -> Meter | None:
        """The meter that measures now."""
        return cls._current() if cls._current is not None else None

    def run(self, forward: Callable[..., Any], args: tuple[Any, ...],
            kwargs: dict[str, Any]) -> Any:
        """A forward of the model. In a region around it nothing is kept that could be counted."""
        if is_inside_region():
            return forward(*args, **kwargs)
        for address in storages_in((args, kwargs)):
            _core.meter_leave_out(address)
        before = _core.meter_enter(True)  # what another model saves meanwhile is not this one's
        try:
            with saving():
                return forward(*args, **kwargs)
        finally:
            _core.meter_enter(before)

    def peak(self) -> int:
        """The most bytes so far."""
        return _core.meter_read()[1] if self._peak is None else self._peak

    def stop(self) -> int:
        """Ends it; the most bytes."""
        if self._peak is None:
            self._peak = _core.meter_read()[1]
            _core.meter_stop()
            Meter._current = None
        return self._peak
