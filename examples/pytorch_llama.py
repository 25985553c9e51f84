#!/usr/bin/env python3
# examples/pytorch_llama.py: Hugging Face models trained on real text under rcore's policies, beside
# torch's checkpoint.
"""Trains a small Llama, GPT-2 and Mixtral (random weights, from their configs) on this repository's
own text, on the CPU, and prints for each way of recomputing what it needs and costs.

    python examples/pytorch_llama.py                     # all three models
    python examples/pytorch_llama.py --model llama --steps 20
    python examples/pytorch_llama.py --model llama --policy "--recompute-granularity selective
    --recompute-modules mlp" python examples/pytorch_llama.py --model llama --budget 12MB --budget
    0.4

Peak live bytes are torch's own allocations in one step, from its profiler, beyond what is there
between steps. Peak saved bytes are what the graph holds for backward, by rcore's own count; each
budget is asserted in them. Peak resident memory is how far one step raises the operating system's
high-water mark, with every block of 64 KiB and more mapped by itself: the C library's heap keeps
holes that differ from run to run. Times are ratios step by step in turn in one process, with the
quartiles: to torch's checkpoint of every layer, and to torch's checkpoint of the same layers or
parts; in the row of torch's checkpoint of every layer they are A/A ratios. Losses are compared bit
for bit with those of no recomputation, and live bytes with torch's for the same: the program fails
where they differ or are more. The last line is the Pareto front of saved bytes and time.
"""
from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import functools
import gc
import pathlib
import random
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from torch.utils.checkpoint import checkpoint as torch_checkpoint

import rcore.torch
from rcore.torch import Policy

BATCH, LENGTH, VOCABULARY = 4, 256, 256
M_MMAP_THRESHOLD = -3  # of malloc.h


def text() -> torch.Tensor:
    """The bytes of the repository's own documents."""
    root = pathlib.Path(__file__).resolve().parent.parent
    data = b"".join(p.read_bytes() for p in sorted(root.rglob("*.md")) if ".venv" not in p.parts)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


def batch(data: torch.Tensor, step: int) -> torch.Tensor:
    """The same random rows for every policy."""
    starts = torch.randint(
        len(data) - LENGTH, (BATCH,), generator=torch.Generator().manual_seed(step))
    return torch.stack([data[s:s + LENGTH] for s in starts])


def models() -> dict[str, Callable[[], torch.nn.Module]]:
    common = dict(vocab_size=VOCABULARY, hidden_size=128, intermediate_size=344,
                  num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
                  use_cache=False, attn_implementation="eager", attention_dropout=0.1)
    return {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**common)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=128, n_layer=8, n_head=4,
                                    n_positions=LENGTH, use_cache=False, bos_token_id=0,
                                    eos_token_id=0, attn_implementation="eager")),
        "mixtral": lambda: transformers.MixtralForCausalLM(
            transformers.MixtralConfig(
                **{**common, "num_hidden_layers": 4, "intermediate_size": 172}, num_local_experts=4,
                num_experts_per_tok=2)),
    }


@dataclasses.dataclass(frozen=True)
class Torch:
    """What is run by torch's checkpoint: whole layers, the first `first`, in chunks; or parts."""

    parts: tuple[str, ...] = ("layer",)
    first: int | None = None
    chunk: int = 1


def policies(moe: bool) -> dict[str, Any]:
    """Names of the table's rows -> how to run the model; torch's way to the same comes first."""
    feed = "moe" if moe else "mlp"
    half = 2 if moe else 4
    three = ("core_attn", "layernorm", feed)
    return {
        "no recomputation": None,
        "torch checkpoint, each layer": Torch(),
        "rcore, each layer": Policy.full("uniform", 1),
        "torch checkpoint, chunks of 2": Torch(chunk=2),
        "rcore, chunks of 2": Policy.from_args(
            "--recompute-granularity full --recompute-method uniform --recompute-num-layers 2"),
        "torch checkpoint, first half": Torch(first=half),
        "rcore, first half": Policy.full("block", half),
        "torch checkpoint, core_attn": Torch(("core_attn",)),
        "rcore, core_attn": Policy.from_args("--recompute-activations"),
        "torch checkpoint, layernorm": Torch(("layernorm",)),
        "rcore, layernorm": Policy.selective("layernorm"),
        f"torch checkpoint, {' + '.join(three)}": Torch(three),
        f"rcore, {' + '.join(three)}": Policy.selective(*three),
    }


def again(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under torch's checkpoint."""
    return functools.partial(torch_checkpoint, function, use_reentrant=False)


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    return list(model.transformer.h if hasattr(model, "transformer") else model.model.layers)


def chunk_by_torch(layers: list[torch.nn.Module]) -> None:
    """All layers run in the call of the first one; the others hand on what they get."""
    forwards = [layer.forward for layer in layers]
    is_tuple = False

    def run(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal is_tuple
        for forward in forwards:
            result = forward(hidden, *args, **kwargs)
            is_tuple = isinstance(result, tuple)
            hidden = result[0] if is_tuple else result
        return result

    layers[0].forward = again(run)
    for layer in layers[1:]:
        layer.forward = lambda hidden, *args, **kwargs: (hidden,) if is_tuple else hidden


def attention_by_torch(attention: torch.nn.Module) -> None:
    """The function between the projections; a module of transformers calls it by a global name."""
    source = sys.modules[type(attention).__module__]
    function = source.eager_attention_forward
    if not hasattr(function, "modules"):
        original, modules = function, weakref.WeakSet()

        def function(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            run = again(original) if module in modules else original
            return run(module, *args, **kwargs)

        function.modules = modules
        source.eager_attention_forward = function
    function.modules.add(attention)


def by_torch(model: torch.nn.Module, how: Torch) -> None:
    """Puts torch's checkpoint where a policy of rcore would put regions, by hand."""
    layers = layers_of(model)
    if how.chunk > 1:
        for at in range(0, len(layers), how.chunk):
            chunk_by_torch(layers[at:at + how.chunk])
        return
    for layer in layers[:how.first]:
        if "layer" in how.parts:
            layer.forward = again(layer.forward)
        for name, part in layer.named_children():
            is_norm = "norm" in name or name.startswith("ln_")
            if (is_norm and "layernorm" in how.parts) or (name == "mlp" and
                                                          {"mlp", "moe"} & set(how.parts)):
                part.forward = again(part.forward)
            if name in ("attn", "self_attn") and "core_attn" in how.parts:
                attention_by_torch(part)


@contextlib.contextmanager
def under(model: torch.nn.Module, how: Any) -> Iterator[None]:
    """The model as one row of the table runs it."""
    if how is None:
        yield
    elif isinstance(how, Torch):
        by_torch(model, how)
        yield
    else:
        with rcore.torch.apply(model, how):
            yield


class Trainer:
    """One model, from the same start, under one way of recomputing."""

    def __init__(self, make: Callable[[], torch.nn.Module], data: torch.Tensor, how: Any) -> None:
        torch.manual_seed(0)
        self.model, self.data, self.how = make().train(), data, how
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.losses: list[float] = []
        self._applied = contextlib.ExitStack()
        self._applied.enter_context(under(self.model, how))

    def close(self) -> None:
        """Takes the policy off."""
        self._applied.close()

    def step(self) -> float:
        """One step; its time in seconds."""
        ids = batch(self.data, len(self.losses))
        torch.manual_seed(1000 + len(self.losses))
        begin = time.perf_counter()
        loss = self.model(input_ids=ids, labels=ids).loss
        loss.backward()
        took = time.perf_counter() - begin
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.losses.append(loss.item())
        return took


def live_peak(trainer: Trainer) -> int:
    """Most bytes of torch's that one step holds at once beyond those it begins with."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU],
                                profile_memory=True) as profiler:
        trainer.step()
    live = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def saved_peak(trainer: Trainer) -> int | None:
    """Most bytes that the graph holds for backward in one step; None for torch's checkpoint, which
    hides its own.
    """
    if isinstance(trainer.how, Torch):
        trainer.step()  # as many steps as the others
        return None
    with rcore.torch.watch(trainer.model) as watched:
        trainer.step()
    budget = rcore.torch.report(trainer.model).budget if trainer.how is not None else None
    if budget is not None:
        predicted, measured = budget["predicted_bytes"], watched.saved_peak
        assert measured <= budget["budget_bytes"] and abs(measured -
                                                          predicted) <= 0.02 * predicted, budget
    return watched.saved_peak


def resident_peak(trainer: Trainer) -> int:
    """How far one step raises the process's resident set, by the system's high-water mark."""
    def status(field: str) -> int:
        return int(
            pathlib.Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) * 1024

    gc.collect()
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    trainer.step()
    return status("VmHWM") - before


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}..{high:.2f})"


def same_by_torch(row: str) -> str:
    """The row in which torch's checkpoint does the same."""
    return row.replace("rcore, ", "torch checkpoint, ")


def table(name: str, make: Callable[[], torch.nn.Module], data: torch.Tensor, steps: int,
          rows: dict[str, Any]) -> None:
    trainers = {row: Trainer(make, data, how) for row, how in rows.items()}
    control = Trainer(make, data, Torch())
    times: dict[str, list[float]] = {row: [] for row in (*rows, "control")}
    order = [*trainers.items(), ("control", control)]
    for trainer in (*trainers.values(), control):
        trainer.step()
        trainer.step()  # the first one under a budget is its warm-up
    for _ in range(steps):
        random.shuffle(order)
        for row, trainer in order:
            times[row].append(trainer.step())
    losses = list(trainers["no recomputation"].losses)
    same = {row: trainer.losses == losses for row, trainer in trainers.items()}
    millions = sum(p.numel() for p in control.model.parameters()) / 1e6
    print(f"\n### {name}: {millions:.1f} M parameters, {BATCH} x {LENGTH} tokens, {steps} steps, "
          f"loss {losses[0]:.3f} to {losses[-1]:.3f}\n")
    print("| | peak live MiB | peak saved MiB | peak resident MiB | time / torch, each layer | "
          "time / torch, the same | losses |\n|---|--:|--:|--:|--:|--:|---|")

    def ratio(of: str, to: str) -> str:
        return quartiles([a / b for a, b in zip(times[of], times[to])])

    points: list[tuple[int, float, str]] = []
    lives: dict[str, int] = {}
    base = "torch checkpoint, each layer"
    for row, trainer in trainers.items():
        of = "control" if row == base else row
        equal = same_by_torch(row)
        beside = ratio(of, equal) if equal in rows and (equal != row or row == base) else ""
        live, saved, resident = live_peak(trainer), saved_peak(trainer), resident_peak(trainer)
        lives[row] = live
        if saved is not None:
            points.append((saved, statistics.median(times[row]) / statistics.median(times[base]),
                           row))
        shown = "" if saved is None else f"{saved / 2**20:.1f}"
        print(f"| {row} | {live / 2**20:.1f} | {shown} | {resident / 2**20:.1f} | "
              f"{ratio(of, base)} | {beside} | {'the same bits' if same[row] else 'DIFFER'} |",
              flush=True)
    for trainer in (*trainers.values(), control):
        trainer.close()
    print("\nfront: " + "; ".join(
        f"{saved / 2**20:.1f} MiB {ratio:.2f} {row}" for saved, ratio, row in front(points)))
    # A layer of a chunk keeps the generator's state of its own begin (5,056 bytes), and a profiled
    # replay is a range of the profiler (8).
    larger = [row for row, live in lives.items()
              if live > lives.get(same_by_torch(row), live) + 5064 * len(layers_of(control.model))]
    assert all(same.values()) and not larger, f"losses differ, or larger than torch's: {larger}"


def front(points: list[tuple[int, float, str]]) -> list[tuple[int, float, str]]:
    """Those that no other beats in both saved bytes and time, from the smallest."""
    best: list[tuple[int, float, str]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(models()), action="append")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--policy", action="append", default=[],
                        help="Megatron's flags, in one word")
    parser.add_argument(
        "--budget", action="append",
        help="bytes (12MB) or a share of what keeping everything takes (0.4); default "
        "0.6, 0.4, 0.25")
    parser.add_argument("--policy-json", action="append", default=[],
                        help="a policy in the library's JSON form")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    data = text()
    for name in options.model or models():
        rows = policies(name == "mixtral")
        rows.update({flags: Policy.from_args(flags) for flags in options.policy})
        rows.update({
            f"rcore, budget {b}":
                Policy.budget(float(b) if b.replace(".", "", 1).isdigit() and float(b) <= 1 else b)
            for b in options.budget or ("0.6", "0.4", "0.25")
        })
        rows.update({path: Policy.from_json(pathlib.Path(path)) for path in options.policy_json})
        table(name, models()[name], data, options.steps, rows)


if __name__ == "__main__":
    main()
