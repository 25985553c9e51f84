# rcore/torch/reporting.py: what a policy on a model has freed and cost, and when.
"""report() and watch()."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

from torch import nn

from rcore import _core
from rcore.errors import Error
from rcore.torch.applied import Applied, applied_to
from rcore.torch.measuring import Meter

__all__ = ["Event", "Report", "Watch", "report", "watch"]


@dataclasses.dataclass(frozen=True)
class Event:
    """One forward or replay of a region.

    Attributes:
        what: ``"forward"`` or ``"replay"``.
        kind, name, layer: of its module.
        begin_ns, end_ns: on the monotonic clock.
        bytes: what the region did not keep, or made again.
        resident: the process's resident memory at its end.
    """

    what: str
    kind: str
    name: str
    layer: int
    begin_ns: int
    end_ns: int
    bytes: int
    resident: int


class Watch:
    """The events of the regions that ran inside ``watch()``."""

    def __init__(self, meter: Meter | None = None) -> None:
        self._raw: list[tuple] = []
        self._meter = meter

    @property
    def saved_peak(self) -> int | None:
        """The most bytes that the model's graph held for backward; None where no model was given.
        """
        return self._meter.peak() if self._meter is not None else None

    @property
    def events(self) -> list[Event]:
        """All events, in order of their ends."""
        return [Event(*e) for e in self._raw]

    def peak(self) -> Event | None:
        """The event at whose end the process was largest."""
        return max(self.events, key=lambda e: e.resident, default=None)

    def perfetto(self, path: str | os.PathLike[str]) -> None:
        """Writes a trace for ui.perfetto.dev or chrome://tracing."""
        trace: list[dict[str, Any]] = []
        for e in self.events:
            trace.append({
                "name": f"{e.what} {e.name}", "cat": e.kind, "ph": "X", "ts": e.begin_ns / 1000,
                "pid": os.getpid(), "dur": (e.end_ns - e.begin_ns) / 1000,
                "tid": 0 if e.what == "forward" else 1,
                "args": {"layer": e.layer, "bytes": e.bytes}
            })
            trace.append({"name": "resident", "ph": "C", "ts": e.end_ns / 1000, "pid": os.getpid(),
                          "args": {"MiB": e.resident / 2**20}})
        with open(path, "w") as file:
            json.dump({"traceEvents": trace, "displayTimeUnit": "ms"}, file)


@contextlib.contextmanager
def watch(model: nn.Module | None = None) -> Iterator[Watch]:
    """Notes each forward and replay of a region inside, of all threads; costs a few microseconds
    for each.

    Args:
        model: measures what its graph holds for backward too, some microseconds for each saved
            tensor.
    """
    with contextlib.ExitStack() as stack:
        result = Watch(stack.enter_context(_metered(model)) if model is not None else None)
        before = _core.set_trace(result._raw)
        stack.callback(_core.set_trace, before)
        yield result


@contextlib.contextmanager
def _metered(model: nn.Module) -> Iterator[Meter]:
    applied = applied_to(model)
    if applied is not None and applied.budget is not None:
        applied.budget.close()
    meter = Meter(model)
    forward, own = model.forward, model.__dict__.get("forward")
    model.__dict__["forward"] = lambda *args, **kwargs: meter.run(forward, args, kwargs)
    try:
        yield meter
    finally:
        if own is None:
            del model.__dict__["forward"]
        else:
            model.__dict__["forward"] = own
        meter.stop()


def _budget_line(budget: dict[str, Any]) -> str:
    measured = "not measured yet"
    if budget["measured_bytes"] is not None:
        measured = f"{budget['measured_bytes']} measured"
    return (
        f"held for backward: {budget['budget_bytes']} bytes allowed, {budget['predicted_bytes']} "
        f"predicted, {measured}; {budget['keep_all_bytes']} without recomputation")


_COLUMNS = ("regions", "nested", "replays", "freed_bytes", "regenerated_bytes", "replay_ns")


class Report:
    """What a policy has done since ``apply``, or since ``reset``.

    Attributes:
        rows: one dict for each kind and layer: ``regions`` run, those ``nested`` in a recomputed
            one and made again with it, ``replays``, ``freed_bytes`` that autograd would have kept,
            ``regenerated_bytes``, ``replay_ns``.
        totals: their sums.
        core: counters of the library: what it holds itself (records) apart from what is torch's
            (all else).
        dead_rules: rules of the policy that matched no module.
        notes: what a setting does not do although one may expect it.
        idle: kinds that a rule names and that freed nothing.
        peak: where the process was largest, if a watch was given.
        saved_peak: the most bytes that the graph held for backward, if a watch of the model was
            given.
        budget: under ``Policy.budget``: ``budget_bytes``, ``predicted_bytes`` and
            ``measured_bytes`` (the most that was held for backward at once; measured in the first
            planned step), ``keep_all_bytes``, ``replay_seconds`` of a step, and the ``rules`` that
            were planned. None before the first forward.
    """

    def __init__(self, applied: Applied, watched: Watch | None = None) -> None:
        rows: dict[tuple[int, str], dict[str, Any]] = {}
        for place, module in applied.modules:
            empty = {"layer": place.layer, "kind": place.kind, "recomputed": False}
            empty.update(dict.fromkeys(_COLUMNS, 0))
            row = rows.setdefault((place.layer, place.kind), empty)
            counters = module.counters()
            row["recomputed"] = row["recomputed"] or module.recomputes
            for column in _COLUMNS:
                row[column] += counters[column]
        self.policy = repr(applied.policy)
        self.rows = sorted(rows.values(), key=lambda r: (r["layer"], r["kind"]))
        self.totals = {c: sum(r[c] for r in self.rows) for c in _COLUMNS}
        self.core = applied.stats()
        self.core_report = json.loads(applied.context.report())
        self.dead_rules = list(applied.dead_rules)
        self.notes = [
            f"{field}: {message}" if field else message for field, message in applied.table.notes()
        ]
        ran = {r["kind"] for r in self.rows if r["recomputed"] and (r["regions"] or r["nested"])}
        freed = {r["kind"] for r in self.rows if r["freed_bytes"] or r["nested"]}
        self.idle = sorted(ran - freed)
        self.peak = watched.peak() if watched is not None else None
        self.saved_peak = watched.saved_peak if watched is not None else None
        self.budget = applied.budget.describe() if applied.budget is not None else None

    def scalars(self, prefix: str = "rcore/") -> dict[str, float]:
        """Numbers for a logger, once a step: bytes freed and made again, replays, replay time."""
        return {**{prefix + c: float(v) for c, v in self.totals.items()},
                prefix + "core_live_bytes": float(self.core["live_bytes"])}

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps(
            {
                "policy": self.policy, "rows": self.rows, "totals": self.totals, "core": self.core,
                "core_report": self.core_report, "dead_rules": self.dead_rules, "notes": self.notes,
                "idle": self.idle, "budget": self.budget, "saved_peak": self.saved_peak,
                "peak": dataclasses.asdict(self.peak) if self.peak else None
            }, indent=1)

    def __str__(self) -> str:
        lines = [
            self.policy,
            f"{'layer':>5} {'kind':<16}{'regions':>8}{'replays':>8}{'freed KiB':>12}"
            f"{'made again KiB':>16}{'replay us':>11}"
        ]
        for r in self.rows:
            if not (r["regions"] or r["nested"]):
                continue
            if r["nested"] and not r["regions"]:
                lines.append(f"{r['layer']:>5} {r['kind']:<16}{'with the region around it':>29}")
                continue
            lines.append(
                f"{r['layer']:>5} "
                f"{r['kind']:<16}{r['regions']:>8}{r['replays']:>8}{r['freed_bytes'] / 1024:>12.1f}"
                f"{r['regenerated_bytes'] / 1024:>16.1f}"
                f"{r['replay_ns'] / max(r['replays'], 1) / 1000:>11.1f}"
            )
        t = self.totals
        lines.append(
            f"{'':>5} {'all':<16}{t['regions']:>8}{t['replays']:>8}{t['freed_bytes'] / 1024:>12.1f}"
            f"{t['regenerated_bytes'] / 1024:>16.1f}"
            f"{t['replay_ns'] / max(t['replays'], 1) / 1000:>11.1f}"
        )
        lines.append(
            f"torch's memory: all of the above; the core's own: {self.core['live_bytes']} bytes "
            f"now, {self.core['peak_bytes']} at most")
        if self.budget:
            lines.append(_budget_line(self.budget))
        if self.saved_peak is not None:
            lines.append(f"held for backward: {self.saved_peak} bytes at most")
        if self.peak:
            lines.append(
                f"largest, {self.peak.resident / 2**20:.1f} MiB resident, after the "
                f"{self.peak.what} of {self.peak.name}")
        lines += [f"matched nothing: {rule}" for rule in self.dead_rules]
        lines += [f"freed nothing: kind '{kind}'" for kind in self.idle]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the bytes freed by layer and kind (needs matplotlib)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        axes = figure.subplots()
        layers = sorted({r["layer"] for r in self.rows})
        bottom = dict.fromkeys(layers, 0.0)
        for kind in sorted({r["kind"] for r in self.rows if r["freed_bytes"]}):
            height = [
                sum(r["freed_bytes"] for r in self.rows if (r["layer"], r["kind"]) == (at, kind)) /
                2**20 for at in layers
            ]
            axes.bar(layers, height, bottom=[bottom[at] for at in layers], label=kind)
            for at, h in zip(layers, height):
                bottom[at] += h
        axes.set(xlabel="layer", ylabel="MiB freed", title=self.policy)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        figure.savefig(path)


def report(model: nn.Module, watched: Watch | None = None, reset: bool = False) -> Report:
    """What the policy on a model has freed and cost.

    Args:
        model: as given to ``apply``.
        watched: a ``watch()`` that ran around steps of it; then the report says where the peak was.
        reset: start counting anew, for a series by step.
    """
    applied = applied_to(model)
    if applied is None:
        raise Error("rcore.torch: no policy is applied to this model", "RC_E_STATE")
    result = Report(applied, watched)
    if reset:
        for _, module in applied.modules:
            module.reset()
    return result
