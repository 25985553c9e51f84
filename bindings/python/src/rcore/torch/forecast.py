# rcore/torch/forecast.py: the bytes that a graph will hold at each moment of a step, for any choice
# of what is recomputed.
"""Saved bytes of a step, from the record of one forward.

Positions are those of `Observed.saves`. Backward passes them from the last to the first, which is
the order in which the engine runs nodes; a block is held from its save, or from its region's
replay, until backward has passed the first position that saved it.
"""
from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterable

from rcore.torch.observing import Observed, Site

__all__ = ["Choice", "Forecast", "Group"]


@dataclasses.dataclass(frozen=True)
class Group:
    """All places of one kind in one layer: what a policy decides on at once."""

    kind: str
    layer: int


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is recomputed.

    Attributes:
        groups: places by themselves, outside of the layers below.
        whole: so many first layers are recomputed as they are.
        unit: layers that one input is kept for; all layers, where it is more than 1.
    """

    groups: frozenset[Group] = frozenset()
    whole: int = 0
    unit: int = 1


class Forecast:
    """Predicts saved bytes and replay times.

    Args:
        observed: the record of a forward.
        discarding: the kinds whose outputs go too.
    """

    def __init__(self, observed: Observed, discarding: Iterable[str]) -> None:
        self._observed, self._discarding = observed, frozenset(discarding)
        self.layers = [s for s in observed.sites if s.place.kind == "layer"]
        self.groups: dict[Group, list[Site]] = {}
        self._scope: dict[int, Site | None] = {}
        for site in observed.sites:
            if site.place.kind != "layer":
                self.groups.setdefault(Group(site.place.kind, site.place.layer), []).append(site)
            self._scope[id(site)] = self._layer_around(site)
        self._smooth_times()
        self._numbers = {id(s): i for i, s in enumerate(observed.sites)}
        self.end = len(observed.saves)

    def _smooth_times(self) -> None:
        """Places that save the same take the same time: one forward alone is noisy."""
        alike: dict[tuple, list[Site]] = {}
        for s in self._observed.sites:
            saved = sum(self._observed.bytes[b] for b in self._observed.saves[s.begin:s.end])
            alike.setdefault((s.place.kind, s.end - s.begin, saved), []).append(s)
        for sites in alike.values():
            seconds = statistics.median(s.seconds for s in sites), statistics.median(
                s.whole_seconds for s in sites)
            for s in sites:
                s.seconds, s.whole_seconds = seconds

    def _layer_around(self, site: Site) -> Site | None:
        while site.around >= 0:
            site = self._observed.sites[site.around]
            if site.place.kind == "layer":
                return site
        return None

    def contains(self, outer: Group, inner: Group) -> bool:
        """Whether a place of `inner` runs inside one of `outer`."""
        outers = {self._numbers[id(s)] for s in self.groups[outer]}
        return any(s.around in outers for s in self.groups[inner])

    def _regions(self, choice: Choice) -> tuple[list[Site], list[Site]]:
        """(regions whose outputs stay, regions whose outputs are discarded); units of layers as one
        site each.
        """
        if choice.unit > 1:
            return [
                _joined(self.layers[i:i + choice.unit])
                for i in range(0, len(self.layers), choice.unit)
            ], []
        chosen = list(self.layers[:choice.whole])
        whole = {id(s) for s in chosen}
        discarded: list[Site] = []
        for group in choice.groups:
            for site in self.groups[group]:
                layer = self._scope[id(site)]
                if id(layer) in whole:
                    continue
                (discarded
                 if group.kind in self._discarding and layer is not None else chosen).append(site)
        return chosen, discarded

    def seconds(self, choice: Choice) -> float:
        """What the replays of a step take."""
        if choice.unit > 1:
            # All layers of a unit but the last run to their end: the next one needs what they
            # return.
            units = [
                self.layers[i:i + choice.unit] for i in range(0, len(self.layers), choice.unit)
            ]
            return sum(sum(s.whole_seconds for s in unit[:-1]) + unit[-1].seconds for unit in units)
        kept, discarded = self._regions(choice)
        return sum(s.seconds for s in kept) + sum(s.whole_seconds for s in discarded)

    def bytes_of(self, block: int) -> int:
        """Of one block."""
        return self._observed.bytes[block]

    def held_blocks(self, choice: Choice) -> dict[int, int]:
        """The blocks held at the end of forward, and from which position on."""
        kept, discarded = self._regions(choice)
        return self._kept_blocks(kept, discarded, self._notes(kept, discarded))

    def replayed_at(self, group: Group) -> int:
        """The position before which backward needs the first replay of a group."""
        kept, discarded = self._regions(Choice(frozenset((group,))))
        moments = [last for found in self._notes(kept, discarded).values() for _, last in found]
        return max([s.end for s in kept + discarded] + [last + 1 for last in moments])

    def peak(self, choice: Choice) -> int:
        """The most bytes held at once."""
        kept, discarded = self._regions(choice)
        change = [0] * (self.end + 2)

        def hold(block: int, first: int, last: int) -> None:
            change[first] += self._observed.bytes[block]
            change[last + 1] -= self._observed.bytes[block]

        notes = self._notes(kept, discarded)
        for block, first in self._kept_blocks(kept, discarded, notes).items():
            hold(block, first, self.end)
        for site in kept:
            self._regenerated(site, site.end - 1, hold)
        for site in discarded:
            moments = [
                m for block in site.outputs - site.inputs for m in notes.get((id(site), block), ())
            ]
            begin = max((last for _, last in moments), default=site.end - 1)
            self._regenerated(site, begin, hold)
            saved = set(self._observed.saves[site.begin:site.end])
            for block in site.outputs - site.inputs - saved:
                firsts = [first for first, _ in notes.get((id(site), block), ())]
                if firsts:
                    hold(block, min(firsts), begin)
        return max(itertools.accumulate(change))

    def _regenerated(self, site: Site, begin: int, hold: Callable[[int, int, int], None]) -> None:
        first: dict[int, int] = {}
        for at in range(site.begin, site.end):
            first.setdefault(self._observed.saves[at], at)
        for block, at in first.items():
            if block not in site.inputs:
                hold(block, at, begin)

    def _notes(self, kept: list[Site],
               discarded: list[Site]) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """(a discarding site, one of its outputs) -> when its readers need it: (the last moment,
        the first one).
        """
        makers: dict[int, list[Site]] = {}
        for site in discarded:
            for block in site.outputs - site.inputs:
                makers.setdefault(block, []).append(site)
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        inside = _covered(kept + discarded)
        for block, sites in makers.items():
            for site in sites:
                layer = self._scope[id(site)]
                end = layer.end if layer is not None else self.end
                moments = [(at, at) for at in range(site.end, end)
                           if self._observed.saves[at] == block and at not in inside]
                moments += [
                    (r.begin, r.end - 1)
                    for r in kept + discarded
                    if block in r.inputs and site.end <= r.begin < end and r.keeps
                ]
                found[id(site), block] = moments
        return found

    def _kept_blocks(self, kept: list[Site], discarded: list[Site], notes: dict) -> dict[int, int]:
        """Blocks that forward leaves behind -> the first position that holds them."""
        inside = _covered(kept + discarded)
        noted: dict[int, set[int]] = {}
        for (_, block), moments in notes.items():
            noted.setdefault(block, set()).update(first for first, _ in moments)
        found: dict[int, int] = {}
        for at, block in enumerate(self._observed.saves):
            if at not in inside and at not in noted.get(block, ()):
                found.setdefault(block, at)
        for site in kept + discarded:
            begin = site.begin
            if not site.keeps:  # its region stays where a reader needs its outputs again
                needed = [first for block in site.outputs - site.inputs
                          for first, _ in notes.get((id(site), block), ())]
                if not needed:
                    continue
                begin = min(needed)
            for block in site.inputs:
                if begin not in noted.get(block, ()):
                    found[block] = min(found.get(block, begin), begin)
        return found


def _covered(sites: list[Site]) -> set[int]:
    return set(itertools.chain.from_iterable(range(s.begin, s.end) for s in sites))


def _joined(sites: list[Site]) -> Site:
    """A unit of layers as one region: it keeps what comes from outside of it."""
    made: frozenset[int] = frozenset()
    inputs: frozenset[int] = frozenset()
    for site in sites:
        inputs |= site.inputs - made
        made |= site.outputs
    return Site(sites[0].place, sites[0].begin, inputs, sites[0].around, sites[-1].end,
                sites[-1].outputs, sites[-1].seconds, sites[-1].whole_seconds,
                any(s.keeps for s in sites))
