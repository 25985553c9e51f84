# rcore/torch/budget.py: from what a warm-up forward saved to the fastest choice that a budget allows.
"""Plans within a budget of saved bytes.

The compiled planner chooses among the places of a layer; whether a choice fits is read from the forecast, which is exact.
As the planner's own model counts a layer's kept bytes in all of its backward, it is asked with budgets around the user's,
until its choice is the best that fits.
"""
from __future__ import annotations

import dataclasses
import statistics
from typing import Any, Iterator

from rcore.errors import Error
from rcore.plan import make_plan
from rcore.torch.forecast import Choice, Forecast, Group

__all__ = ["Plan", "plan_within"]

#: Questions to the planner for one number of whole layers.
_QUESTIONS = 10


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
    inner = {g for g in groups for o in groups if o.layer == g.layer and o != g and forecast.contains(o, g)}
    outer = {o for o in groups for g in inner if o.layer == g.layer and o != g and forecast.contains(o, g)}
    yield [g for g in groups if g not in inner]
    if inner:
        yield [g for g in groups if g not in outer]


class _Search:
    """The best choice so far, and what each that was looked at takes."""

    def __init__(self, forecast: Forecast, budget: int) -> None:
        self.forecast, self.budget = forecast, budget
        self.best: Choice | None = None
        self.best_seconds = float("inf")
        self.least = (float("inf"), Choice())
        self._peaks: dict[Choice, int] = {}
        held = forecast.held(Choice())
        alone = {g: Choice(frozenset((g,))) for g in forecast.groups}
        self.freed = {g: held - forecast.held(choice) for g, choice in alone.items()}
        self.seconds = {g: forecast.seconds(choice) for g, choice in alone.items()}

    def fits(self, choice: Choice) -> bool:
        peak = self._peaks.get(choice)
        if peak is None:
            peak = self._peaks[choice] = self.forecast.peak(choice)
            self.least = min(self.least, (peak, choice), key=lambda p: p[0])
        if peak > self.budget:
            return False
        seconds = self.forecast.seconds(choice)
        if (seconds, peak) < (self.best_seconds, self._peaks.get(self.best, float("inf"))):
            self.best, self.best_seconds = choice, seconds
        return True

    def peak(self, choice: Choice) -> int:
        return self._peaks[choice]


def _inventory(search: _Search, layers: list[int], groups: list[Group], whole: int) -> dict[str, Any]:
    """The request's measured tensors: one for each place outside of the first `whole` layers."""
    by_signature: dict[tuple, dict[str, Any]] = {}
    for index, layer in enumerate(layers):
        mine = [g for g in groups if g.layer == layer and index >= whole and search.freed[g] > 0]
        tensors = [{"name": g.kind, "kind": f"measured_{g.kind}", "slot": "saved", "role": "saved", "bytes": search.freed[g]} for g in mine]
        tensors.append({"name": "rest", "kind": "measured_rest", "slot": "rest", "role": "saved", "bytes": 0, "can_recompute": False})
        signature = tuple((t["name"], t["bytes"]) for t in tensors)
        entry = by_signature.setdefault(signature, {"layers": [], "seconds": {}, "tensors": tensors})
        entry["layers"].append(index)
        for g in mine:
            entry["seconds"].setdefault(g.kind, []).append(search.seconds[g])
    classes = []
    for number, entry in enumerate(by_signature.values()):
        for t in entry["tensors"]:
            if t["name"] in entry["seconds"]:
                t["recompute_seconds"] = statistics.median(entry["seconds"][t["name"]])
        classes.append({"name": f"layer{number}", "layers": entry["layers"], "forward_seconds": 0.001, "backward_seconds": 0.002,
                        "tensors": entry["tensors"]})
    kinds = sorted({t["kind"] for c in classes for t in c["tensors"]})
    return {"num_layers": len(layers), "kinds": kinds, "classes": classes}


def _ask(inventory: dict[str, Any], budget: int, layers: list[int], whole: int) -> Choice | None:
    """The planner's choice; None where it sees none."""
    request = {"rcore_plan": 1, "inventory": inventory, "budget_bytes": budget, "options": ["recompute"]}
    try:
        report = make_plan(request)
    except Error as error:
        if error.status == "RC_E_BUDGET":
            return None
        raise
    groups = frozenset(Group(d["tensor"], layers[at]) for rank in report["ranks"] for d in rank["decisions"]
                       if d["action"] == "recompute" for at in d["layers"])
    return Choice(groups, whole)


def _search_groups(search: _Search, groups: list[Group], whole: int) -> None:
    """Asks for the places outside of the first `whole` layers, with budgets around the one that is left for them."""
    forecast = search.forecast
    layers = sorted({s.place.layer for s in forecast.layers} | {g.layer for g in groups})
    inventory = _inventory(search, layers, groups, whole)
    total = sum(t["bytes"] * len(c["layers"]) for c in inventory["classes"] for t in c["tensors"])
    search.fits(Choice(frozenset(), whole))
    low, high = 0, total  # of the planner's bytes: what its tensors may take
    for _ in range(_QUESTIONS):
        if low >= high:
            break
        middle = (low + high + 1) // 2
        choice = _ask(inventory, middle, layers, whole)
        if choice is None or search.fits(choice):
            low = middle
        else:
            high = middle - 1


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
        rules.append({"kind": "layer", "action": "recompute", "first_layer": 0, "n_layers": len(layers), "group_layers": choice.unit})
    elif choice.whole:
        rules.append({"kind": "layer", "action": "recompute", "first_layer": 0, "n_layers": choice.whole})
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
        if search.best is None:
            for unit in range(2, len(forecast.layers) + 1):
                search.fits(Choice(unit=unit))
    if search.best is None:
        raise Error(f"budget: {budget} bytes for what is saved for backward; the least that would do is {search.least[0]} "
                    f"(keeping everything takes {everything})", "RC_E_BUDGET", "budget")
    return Plan(search.best, budget, search.peak(search.best), everything, forecast.seconds(search.best),
                settings_of(forecast, search.best))
