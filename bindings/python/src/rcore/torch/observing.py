# rcore/torch/observing.py: what one forward saves for its backward, where, how many bytes, and what
# running it again takes.
"""The record of a warm-up forward, from which a plan is made."""
from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from rcore.torch.models import Place

__all__ = ["Observed", "Observer", "Site", "storages_in", "storages_of"]


@dataclasses.dataclass
class Site:
    """One run of one place.

    Attributes:
        place: where.
        begin, end: the saves in it, as positions in ``Observed.saves``.
        inputs, outputs: the blocks of its arguments and of what it returned.
        seconds: until its last save: what a replay takes that stops there.
        whole_seconds: to its end.
        around: the site that it ran in, by its number; -1 is none.
        keeps: whether anything was saved in it, be it a frozen weight: its region stays then.
    """

    place: Place
    begin: int
    inputs: frozenset[int]
    around: int
    end: int = 0
    outputs: frozenset[int] = frozenset()
    seconds: float = 0.0
    whole_seconds: float = 0.0
    keeps: bool = False


@dataclasses.dataclass
class Observed:
    """What a forward saved: blocks of memory in the order in which the graph took them, and the
    places it was in.

    Attributes:
        saves: the block of each saved tensor.
        bytes: of each block.
        sites: the places, in the order in which they began.
    """

    saves: list[int] = dataclasses.field(default_factory=list)
    bytes: dict[int, int] = dataclasses.field(default_factory=dict)
    sites: list[Site] = dataclasses.field(default_factory=list)


def storages_of(tensors: Any) -> set[int]:
    """The addresses of the tensors' storages."""
    found = set()
    for t in tensors:
        try:
            found.add(t.untyped_storage()._cdata)
        except (NotImplementedError, RuntimeError):  # a wrapper without memory of its own
            continue
    return found


def storages_in(values: Any) -> set[int]:
    """The same of all tensors in a nested structure."""
    return storages_of(t for t in tree_leaves(values) if isinstance(t, torch.Tensor))


def _belongs_to_parameter(t: torch.Tensor) -> bool:
    base = t if t._base is None else t._base
    return base.is_leaf and base.requires_grad


class Observer:
    """Records a forward; also the extras of the regions that run in it. Holds no tensor.

    Its own time is taken off what it measures.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self.observed = Observed()
        self.recording = True
        self._thread = threading.get_ident()
        self.left_out = storages_of([*model.parameters(), *model.buffers()])
        self.left_out |= storages_in(inputs)
        self._numbers: dict[int, int] = {}
        self._weak: list[int] = []  # while held, the address of a freed storage is not used again
        self._open: list[int] = []
        self._begins: dict[int, float] = {}
        self._regional: dict[int, bool] = {}
        self._regions = 0
        self._spent = 0.0
        self._begins_region = False  # until the region calls its function

    def _number(self, t: torch.Tensor) -> int | None:
        if _belongs_to_parameter(t):
            return None
        try:
            storage = t.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return None
        address = storage._cdata
        if address in self.left_out:
            return None
        number = self._numbers.get(address)
        if number is None:
            number = self._numbers[address] = len(self._numbers)
            self._weak.append(storage._weak_ref())
            self.observed.bytes[number] = storage.nbytes()
        return number

    def _numbers_in(self, values: Any) -> frozenset[int]:
        numbers = (self._number(t) for t in tree_leaves(values) if isinstance(t, torch.Tensor))
        return frozenset(n for n in numbers if n is not None)

    def save(self, t: torch.Tensor) -> None:
        """The graph saves a tensor."""
        begin = time.perf_counter()
        number = self._number(t)
        for at in self._open:
            self.observed.sites[at].keeps = True
        if number is not None:
            self.observed.saves.append(number)
            for at in self._open:
                self.observed.sites[at].seconds = begin - self._begins[at] - self._spent
        self._spent += time.perf_counter() - begin

    def enter(self, place: Place, arguments: Any, begins_region: bool) -> int:
        """A place begins to run."""
        begin = time.perf_counter()
        around = self._open[-1] if self._open else -1
        site = Site(place, len(self.observed.saves), self._numbers_in(arguments), around)
        self.observed.sites.append(site)
        at = len(self.observed.sites) - 1
        self._open.append(at)
        self._begins_region = begins_region
        self._regional[at] = begins_region
        self._regions += begins_region
        end = time.perf_counter()
        self._spent += end - begin
        self._begins[at] = end - self._spent
        return at

    def is_of_this_thread(self) -> bool:
        """Whether the forward that is recorded runs on the calling thread."""
        return self._thread == threading.get_ident()

    def is_in_region(self) -> bool:
        """Whether a region runs."""
        return self._regions > 0

    def leave(self, at: int, result: Any) -> None:
        """It has run."""
        begin = time.perf_counter()
        site = self.observed.sites[at]
        site.end = len(self.observed.saves)
        site.whole_seconds = begin - self._begins[at] - self._spent
        site.outputs = self._numbers_in(result)
        self._open.remove(at)
        self._regions -= self._regional[at]
        self._spent += time.perf_counter() - begin

    def finish(self) -> Observed:
        """The record; ends the recording."""
        self.recording = False
        for weak in self._weak:
            torch.UntypedStorage._free_weak_ref(weak)
        self._weak = []
        return self.observed

    # As the extras of a region.

    def forward(self, function: Any, arguments: tuple[Any, ...], keywords: dict | None) -> Any:
        """The region's forward, as it is."""
        self._begins_region = False
        return function(*arguments, **(keywords or {}))

    def replay(self, function: Any, arguments: tuple[Any, ...], keywords: dict | None) -> Any:
        """The region's replay, as it is."""
        return function(*arguments, **(keywords or {}))

    def measure(self, t: torch.Tensor) -> None:
        """Called with every tensor that a region saves; there is nothing to compare."""
        if self.recording:
            self.save(t)

    def explain(self, error: Any, module: Any, mismatches: list | None) -> None:
        """Nothing better."""

    def look(self, t: torch.Tensor) -> None:
        """Called with what is saved outside of regions. The inputs of regions pass here too, and no
        node saves them.
        """
        if self.recording and not self._begins_region:
            self.save(t)
