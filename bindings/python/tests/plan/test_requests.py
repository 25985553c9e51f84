# tests/plan/test_requests.py: requests that a program got wrong end in an error, never in anything
# worse.
from __future__ import annotations

import copy
import json
import random

import pytest

from rcore.errors import Error
from rcore.plan import Policy, evaluate, make_plan

MODEL = {
    "rcore_plan": 1,
    "model": {"base": "deepseek-v3", "num_layers": 14, "moe_layer_freq": [0, 0, 0] + [1] * 11},
    "layout": {
        "tensor_model_parallel_size": 2,
        "sequence_parallel": True,
        "pipeline_model_parallel_size": 2,
        "virtual_pipeline_model_parallel_size": 2,
        "layers_per_virtual_stage": [4, 4, 4, 2],
        "expert_model_parallel_size": 16,
        "seq_length": 256,
        "micro_batch_size": 1,
        "fp8": "blockwise",
    },
    "hardware": {"base": "h100", "host_rate": 50e9},
    "budget_fraction": 0.6,
    "options": ["recompute"],
    "time_limit_seconds": 0.2,
}
MEASURED = {
    "rcore_plan": 1,
    "inventory": {
        "num_layers": 4,
        "kinds": [{"name": "glu", "discards_output": True}],
        "classes": [
            {
                "name": "a",
                "layers": [0, 1],
                "forward_seconds": 0.001,
                "backward_seconds": 0.002,
                "moments": [0, 4096],
                "tensors": [
                    {
                        "kind": "glu",
                        "slot": "out",
                        "role": "output",
                        "bytes": 4096,
                        "recompute_seconds": 1e-4,
                        "moment": 1,
                        "rows": 16,
                        "row_local": True,
                    }
                ],
            },
            {
                "name": "b",
                "tensors": [
                    {"kind": "layer", "slot": "in", "role": "input", "bytes": 512},
                    {
                        "kind": "core_attn",
                        "slot": "probs",
                        "bytes": 1024,
                        "with": [{"slot": "lse"}],
                    },
                ],
            },
        ],
    },
    "budget_bytes": 20000,
    "workspace_bytes": 16,
    "time_limit_seconds": 0.2,
}
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    7,
    4095,
    4096,
    2**31,
    2**63,
    2**64,
    1e-300,
    1e300,
    0.5,
    "",
    "x",
    "moe",
    [],
    [0],
    {},
    {"a": 1},
]


def _places(tree, at=()):
    yield at
    children = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in children:
        yield from _places(value, (*at, key))


def _mutated(tree, rng: random.Random):
    out = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.choice([p for p in _places(out) if p])
        parent = out
        for key in place[:-1]:
            parent = parent[key]
        kind = rng.random()
        if kind < 0.2:
            parent.pop(place[-1])
        elif kind < 0.3 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[place[-1]]))
        else:
            parent[place[-1]] = rng.choice(VALUES)
    return out


@pytest.mark.parametrize("base", [MODEL, MEASURED], ids=["model", "measured"])
def test_mutated_requests_are_planned_or_refused(base):
    rng = random.Random(5)
    planned = refused = 0
    for _ in range(1500):
        request = _mutated(base, rng)
        try:
            report = make_plan(request)
        except Error as error:
            assert str(error) and error.status in (
                "RC_E_ARGUMENT",
                "RC_E_BUDGET",
                "RC_E_VERSION",
            ), (error.status, request)
            refused += 1
            continue
        planned += 1
        for rank in report["ranks"]:
            assert rank["peak_bytes"] <= rank["budget_bytes"], request
        ranks = evaluate(request, Policy.from_json(report["policy"]))["ranks"]
        assert [r["peak_bytes"] for r in ranks] == [r["peak_bytes"] for r in report["ranks"]], (
            json.dumps(request)
        )
    assert planned > 20 and refused > 20
