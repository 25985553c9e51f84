# rcore/torch/budget.py: from what a warm-up forward saved to the fastest choice that a budget
# allows.
"""Plans within a budget of saved bytes.

The compiled planner chooses among the places; whether a choice fits is read from the forecast,
which is exact. As places that share a block free another number of bytes together than apart, the
planner is also asked with budgets around the user's, until its choice is the best that fits.
"""
from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator
from typing import Any

from rcore.errors import Error
from rcore.plan import make_plan
from rcore.torch.forecast import Choice, Forecast, Group

__all__ = ["Plan", "plan_within"]

#: Questions to the planner for one number of whole layers.
_QUESTIONS = 14


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was chosen for one shape of the inputs.

    Attributes:
        choice: what is recomputed.
        budget_bytes: the limit, in bytes.
        predicted_bytes: the most saved bytes at once.
        keep_all_bytes: the same where nothing is recomputed.
        replay_seconds: what the replays of a step take.
        settings: the policy, in the library's JSON form.
    """

    choice: Choice
    budget_bytes: int
    predicted_bytes: int
    keep_all_bytes: int
    replay_seconds: float
    settings: dict[str, Any]


def _variants(forecast: Forecast) -> Iterator[list[Group]]:
    """Sets of groups that do not contain each other: the outer ones, and those inside them."""
    groups = list(forecast.groups)
    inner = {
        g for g in groups for o in groups
        if o.layer == g.layer and o != g and forecast.contains(o, g)
    }
    outer = {
        o for o in groups for g in inner
        if o.layer == g.layer and o != g and forecast.contains(o, g)
    }
    yield [g for g in groups if g not in inner]
    if inner:
        yield [g for g in groups if g not in outer]


class _Search:
    """The best choice so far, and what each that was looked at takes."""

    def __init__(self, forecast: Forecast, budget: int) -> None:
        self.forecast, self.budget = forecast, budget
        self.best: Choice | None = None
        self.best_seconds = self._best_peak = float("inf")
        self.least = (float("inf"), Choice())
        self._peaks: dict[Choice, int] = {}
        held = forecast.held_blocks(Choice())
        alone = {g: Choice(frozenset((g,))) for g in forecast.groups}
        total = sum(map(forecast.bytes_of, held))
        self.freed: dict[Group, int] = {}
        self.freed_blocks: dict[Group, set[int]] = {}
        for g, choice in alone.items():
            left = forecast.held_blocks(choice)
            self.freed[g] = total - sum(map(forecast.bytes_of, left))
            self.freed_blocks[g] = held.keys() - left.keys()
        self.seconds = {g: forecast.seconds(choice) for g, choice in alone.items()}

    def fits(self, choice: Choice) -> bool:
        peak = self._peaks.get(choice)
        if peak is None:
            peak = self._peaks[choice] = self.forecast.peak(choice)
            self.least = min(self.least, (peak, choice), key=lambda p: p[0])
        if peak > self.budget:
            return False
        seconds = self.forecast.seconds(choice)
        if (seconds, peak) < (self.best_seconds, self._best_peak):
            self.best, self.best_seconds, self._best_peak = choice, seconds, peak
        return True

    def peak(self, choice: Choice) -> int:
        return self._peaks[choice]


def _inventory(search: _Search, groups: list[Group],
               whole: int) -> tuple[dict[str, Any], list[Group | None]]:
    """The request's measured tensors, and what each of its layers is.

    A layer of the request is a stretch of the forward that ends with a place, so that what was
    saved behind it is not held any more when the place is replayed. Its tensors are what the place
    saves, and the rest, which stays.
    """
    forecast = search.forecast
    outside = [
        g for g in groups
        if g.layer not in {s.place.layer for s in forecast.layers[:whole]} and search.freed[g] > 0
    ]
    ends: list[tuple[int, Group | None]] = sorted(((forecast.replayed_at(g), g) for g in outside),
                                                  key=lambda e: e[0])
    ends += [(forecast.end, None)]
    rest = dict.fromkeys(range(len(ends)), 0)
    freed = set().union(*(search.freed_blocks[g] for g in outside))
    for block, at in forecast.held_blocks(Choice(frozenset(), whole)).items():
        if block not in freed:
            rest[bisect.bisect_left(ends, at + 1, key=lambda e: e[0])] += forecast.bytes_of(block)
    classes: dict[tuple, dict[str, Any]] = {}
    for number, (_, group) in enumerate(ends):
        tensors = [{
            "name": "rest", "kind": "measured_rest", "slot": "rest", "role": "saved",
            "bytes": rest[number], "can_recompute": False
        }]
        if group is not None:
            tensors.append({
                "name": "place", "kind": f"measured_{group.kind}", "slot": "saved", "role": "saved",
                "bytes": search.freed[group], "recompute_seconds": search.seconds[group]
            })
        entry = classes.setdefault(
            tuple(tuple(t.values()) for t in tensors), {
                "name": f"stretch{len(classes)}", "layers": [], "forward_seconds": 0.001,
                "backward_seconds": 0.002, "tensors": tensors
            })
        entry["layers"].append(number)
    kinds = sorted({t["kind"] for c in classes.values() for t in c["tensors"]})
    return {"num_layers": len(ends), "kinds": kinds,
            "classes": list(classes.values())}, [g for _, g in ends]


def _ask(inventory: dict[str, Any], budget: int, groups: list[Group | None],
         whole: int) -> Choice | None:
    """The planner's choice; None where it sees none."""
    request = {
        "rcore_plan": 1, "inventory": inventory, "budget_bytes": budget, "options": ["recompute"]
    }
    try:
        report = make_plan(request)
    except Error as error:
        if error.status == "RC_E_BUDGET":
            return None
        raise
    decisions = [
        d for rank in report["ranks"] for d in rank["decisions"] if d["action"] == "recompute"
    ]
    chosen = (groups[at] for d in decisions for at in d["layers"])
    return Choice(frozenset(g for g in chosen if g is not None), whole)


def _search_groups(search: _Search, groups: list[Group], whole: int) -> None:
    """Asks for the places outside of the first `whole` layers, with the user's budget and with
    others around it.
    """
    search.fits(Choice(frozenset(), whole))
    inventory, places = _inventory(search, groups, whole)
    low, high = 0, sum(
        t["bytes"] * len(c["layers"]) for c in inventory["classes"] for t in c["tensors"])
    middle = min(search.budget, high)
    for _ in range(_QUESTIONS):
        choice = _ask(inventory, middle, places, whole)
        if choice is None or search.fits(choice):
            low = middle
        else:
            high = middle - 1
        if low >= high:
            break
        middle = (low + high + 1) // 2


def _drop_needless(search: _Search) -> None:
    """Takes places out of the best choice that fit as they are."""
    assert search.best is not None
    for group in sorted(search.best.groups, key=lambda g: -search.seconds[g]):
        search.fits(dataclasses.replace(search.best, groups=search.best.groups - {group}))


def _ranges(layers: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive numbers: (first, how many)."""
    start = 0
    for at in range(1, len(layers) + 1):
        if at == len(layers) or layers[at] != layers[at - 1] + 1:
            yield layers[start], at - start
            start = at


def settings_of(forecast: Forecast, choice: Choice) -> dict[str, Any]:
    """A choice as a policy."""
    rules: list[dict[str, Any]] = []
    for kind in sorted({g.kind for g in choice.groups}):
        for first, n in _ranges(sorted(g.layer for g in choice.groups if g.kind == kind)):
            rules.append({"kind": kind, "action": "recompute", "first_layer": first, "n_layers": n})
    layers = [s.place.layer for s in forecast.layers]
    if choice.unit > 1:
        rules.append({
            "kind": "layer", "action": "recompute", "first_layer": 0, "n_layers": len(layers),
            "group_layers": choice.unit
        })
    elif choice.whole:
        rules.append(
            {"kind": "layer", "action": "recompute", "first_layer": 0, "n_layers": choice.whole})
    return {"rcore_policy": 1, "rules": rules}


def plan_within(limit: int | float, forecast: Forecast) -> Plan:
    """The fastest choice whose saved bytes stay within the limit.

    Raises:
        rcore.Error: RC_E_BUDGET, with the least bytes that would do.
    """
    everything = forecast.peak(Choice())
    budget = limit if isinstance(limit, int) else int(limit * everything)
    search = _Search(forecast, budget)
    if not search.fits(Choice()):
        for groups in _variants(forecast):
            for whole in range(len(forecast.layers) + 1):
                if forecast.seconds(Choice(frozenset(), whole)) < search.best_seconds:
                    _search_groups(search, groups, whole)
        if search.best is not None:
            _drop_needless(search)
        else:
            for unit in range(2, len(forecast.layers) + 1):
                search.fits(Choice(unit=unit))
    if search.best is None:
        raise Error(
            f"budget: {budget} bytes for what is saved for backward; the least that would do is "
            f"{search.least[0]} (keeping everything takes {everything})", "RC_E_BUDGET", "budget")
    return Plan(search.best, budget, search.peak(search.best), everything,
                forecast.seconds(search.best), settings_of(forecast, search.best))
