# tests/test_report.py: what the report says is what happened.
from __future__ import annotations

import json

import pytest
import torch

import rcore.torch as rt
from rcore.torch import Policy

pytest.importorskip("transformers")
from models import llama, step


def test_rows_totals_and_texts(tmp_path):
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    with pytest.raises(rt.Error, match="no policy is applied"):
        rt.report(model)
    with pytest.warns(rt.UnusedRuleWarning):
        rt.apply(
            model,
            Policy(recompute_granularity="selective", recompute_modules=["mlp", "layernorm",
                                                                         "moe"]))
    with rt.watch() as watched:
        step(model, ids)
    report = rt.report(model, watched, reset=True)
    mlp = [r for r in report.rows if r["kind"] == "mlp"]
    assert [r["layer"] for r in mlp] == [0, 1, 2, 3] and all(
        r["replays"] == r["regions"] == 1 for r in mlp)
    # what the activation, the product and the last linear save: four times 2 x 12 x 64 floats
    assert all(r["freed_bytes"] == 4 * 2 * 12 * 64 * 4 for r in mlp)
    assert report.totals["regenerated_bytes"] == report.totals["freed_bytes"]
    assert report.dead_rules == ["kind 'moe'"]
    assert report.core["regions_begun"] == 12 and report.core["live_bytes"] == 0
    text = str(report)
    assert "matched nothing: kind 'moe'" in text and "MiB resident" in text
    assert json.loads(report.to_json())["totals"] == report.totals
    report.plot(tmp_path / "freed.png")
    assert (tmp_path / "freed.png").stat().st_size > 1000
    assert rt.report(model).totals["replays"] == 0
    assert set(report.scalars()) >= {"rcore/freed_bytes", "rcore/replay_ns"}
    rt.remove(model)


def test_a_watch_sees_forwards_and_replays_in_order(tmp_path):
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    with rt.apply(model, Policy.full()), rt.watch() as watched:
        step(model, ids)
    forwards, replays = [("forward", i) for i in range(4)], [("replay", i) for i in (3, 2, 1, 0)]
    assert [(e.what, e.layer) for e in watched.events] == forwards + replays
    assert all(e.begin_ns < e.end_ns and e.resident > 0 for e in watched.events)
    watched.perfetto(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(e["ph"] == "X" for e in trace) == 8


def test_the_profiler_names_replays():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    with rt.apply(model, Policy.selective("mlp")):
        with torch.profiler.profile() as profiler:
            step(model, ids)
    assert any(e.key == "rcore.replay model.layers.2.mlp" for e in profiler.key_averages())
