#!/usr/bin/env python3
# bench/region_cost.py: what a checkpointed region costs beyond the user's own work, beside torch's
# two checkpoints.
"""Host cost of a region: ours, and torch.utils.checkpoint's non-reentrant and reentrant one, in one
process.

A step is a stack of regions, each with the output of the one before, and one backward through all:
twelve of them, as a model has layers, and a step of a single region, whose region pays for all that
the caches and the branch predictors have forgotten since the step before. Costs are per region.

All variants run round after round, in an order drawn anew for each, on one thread. The unavoidable
work (the forward without a graph, the forward with one, its backward) is a variant too, `work`, and
what a variant takes beyond it in the same round is its cost. Regions save 0, 1, 8 and 64 tensors,
one by each operator of a straight line; fixed cost and cost per tensor are the line through these.
`work again` is the A/A control: it should cost nothing.

The 0-tensor region has no backward to replay, so its row is the forward's cost alone and no part of
the line.
"""
from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint as stock

import rcore.torch

SIZES = (0, 1, 8, 64)
STACKS = (12, 1)
Call = Callable[[Callable[..., Any], torch.Tensor], torch.Tensor]
Costs = dict[str, list[float]]


def work(function: Callable[..., Any], x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        function(x)
    return function(x)


VARIANTS: dict[str, Call] = {
    "work": work,
    "work again": work,
    "torch non-reentrant": lambda f, x: stock.checkpoint(f, x, use_reentrant=False),
    "torch reentrant": lambda f, x: stock.checkpoint(f, x, use_reentrant=True),
    "rcore": lambda f, x: rcore.torch.checkpoint(f, x, use_reentrant=False),
}


def straight_line(n: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of n operators, each of which saves its input."""
    names: dict[str, Any] = {}
    body = "".join("    x = x.sin()\n" for _ in range(n)) + "    return x\n"
    exec(f"def line(x):\n{body}", names)
    return names["line"]


def mlp(device: str) -> tuple[Callable[..., Any], torch.Tensor]:
    class Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(torch.nn.functional.gelu(self.up(x)))

    return Mlp().to(device), torch.randn(2, 8, device=device, requires_grad=True)


def encoder_layer(device: str) -> tuple[Callable[..., Any], torch.Tensor]:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    return layer.to(device), torch.randn(2, 4, 8, device=device, requires_grad=True)


def one(call: Call, function: Callable[..., Any], x: torch.Tensor, regions: int) -> float:
    begin = time.perf_counter_ns()
    out = x
    for _ in range(regions):
        out = call(function, out)
    if out.grad_fn is not None:
        out.sum().backward()
    took = (time.perf_counter_ns() - begin) / 1000 / regions
    if x.is_cuda:
        torch.cuda.synchronize()  # the host's time is the figure; no queue is left to the next
    return took


def measure(function: Callable[..., Any], x: torch.Tensor, rounds: int, regions: int) -> Costs:
    """Microseconds a region beyond `work`, of each variant in each round."""
    costs: Costs = {name: [] for name in VARIANTS}
    order = list(VARIANTS)
    for i in range(rounds + 20):
        random.shuffle(order)
        times = {name: one(VARIANTS[name], function, x, regions) for name in order}
        x.grad = None
        if i >= 20:
            for name, took in times.items():
                costs[name].append(took - times["work"])
    return costs


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def line_of(costs: dict[int, list[float]]) -> tuple[float, float]:
    """(fixed, per tensor): least squares through the medians, relative errors weighted alike."""
    points = [(n, statistics.median(values)) for n, values in costs.items() if n > 0]
    small, large = points[0], points[-1]
    slope = (large[1] - small[1]) / (large[0] - small[0])
    return small[1] - slope * small[0], slope


def batches(costs: list[float], n: int) -> list[list[float]]:
    size = len(costs) // n
    return [costs[i * size:(i + 1) * size] for i in range(n)]


class Stack:
    """The costs of a region in steps of so many regions."""

    def __init__(self, regions: int, rounds: int, device: str) -> None:
        self.regions = regions
        x = torch.randn(1, device=device, requires_grad=True)
        self.straight: dict[int, Costs] = {}
        for n in SIZES:
            self.straight[n] = measure(straight_line(n), x, rounds, regions)
            gc.collect()
        layers = {"MLP": mlp(device), "encoder layer": encoder_layer(device)}
        self.layers = {name: measure(*layer, rounds // 4, regions)
                       for name, layer in layers.items()}
        # The spread of the two figures: the same from each of ten stretches of the run.
        self.parts = {name: [line_of({n: batches(self.straight[n][name], 10)[i] for n in SIZES})
                             for i in range(10)]
                      for name in VARIANTS}

    def figure(self, name: str, at: int) -> tuple[float, float, float]:
        return quartiles([part[at] for part in self.parts[name]])

    def ratio(self, at: int) -> tuple[float, float, float]:
        pairs = zip(self.parts["rcore"], self.parts["torch non-reentrant"])
        return quartiles([ours[at] / theirs[at] for ours, theirs in pairs])

    def as_dict(self) -> dict[str, Any]:
        ratios = {"fixed": self.ratio(0), "per tensor": self.ratio(1)}
        return {"regions": self.regions, "parts": self.parts, "ratios": ratios}

    def print(self) -> None:
        print(f"\n{self.regions} region{'s' if self.regions > 1 else ''} a step, "
              "each with so many saved tensors:")
        columns = list(VARIANTS)[1:]
        print(f"{'':>16} " + " ".join(f"{c:>20}" for c in columns))
        for row, costs in [*self.straight.items(), *self.layers.items()]:
            medians = [statistics.median(costs[c]) for c in columns]
            print(f"{row:>16} " + " ".join(f"{median:>20.1f}" for median in medians))
        for at, what in enumerate(("fixed", "per tensor")):
            figures = [self.figure(c, at) for c in columns]
            print(f"{what:>16} " + " ".join(f"{middle:.2f} ({low:.2f}..{high:.2f})".rjust(20)
                                            for low, middle, high in figures))
        for at, what in enumerate(("fixed", "per tensor")):
            low, middle, high = self.ratio(at)
            print(f"rcore / torch non-reentrant, {what}: {middle:.3f} ({low:.3f}..{high:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000,
                        help="of steps of one region; a stack takes a sixth of them")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                        help="the host's time, kernels put into the queue of a GPU")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.rounds < 60:
        parser.error(f"--rounds {options.rounds}: at least 60, ten stretches of a stack's sixth")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gc.disable()

    begun = rcore.torch.stats()["regions_begun"]
    stacks = [Stack(regions, options.rounds // (6 if regions > 1 else 1), options.device)
              for regions in STACKS]
    begun = rcore.torch.stats()["regions_begun"] - begun
    if options.json:
        figures = {"stacks": [stack.as_dict() for stack in stacks], "regions_begun": begun}
        print(json.dumps(figures, indent=1))
        return
    print(f"microseconds a region beyond the work itself, one thread, torch {torch.__version__}, "
          f"exchange capsule: {rcore.torch.engine.exchange_capsule}, {begun} regions begun; "
          "wanted: fixed at most 0.10 of torch's non-reentrant checkpoint, "
          "a saved tensor at most 0.28")
    for stack in stacks:
        stack.print()


if __name__ == "__main__":
    main()
