#!/usr/bin/env python3
# examples/pytorch_llama.py: Hugging Face models trained on real text under rcore's policies, beside
# torch's checkpoint.
r"""Trains a Llama, GPT-2 and Mixtral (random weights, from their configs) on this repository's own
text, and prints for each way of recomputing what it needs and costs.

    python examples/pytorch_llama.py                     # all three, small, on the CPU
    python examples/pytorch_llama.py --model llama --steps 20
    python examples/pytorch_llama.py --model llama --policy \
        "--recompute-granularity selective --recompute-modules mlp"
    python examples/pytorch_llama.py --model llama --budget 12MB --budget 0.4
    python examples/pytorch_llama.py --device cuda       # layers of Llama-3-8B, bf16, 8192 tokens

Peak live bytes are torch's own allocations in one step, from its profiler, beyond what is there
between steps. Peak saved bytes are what the graph holds for backward, by rcore's own count; each
budget is asserted in them. Peak resident memory is how far one step raises the operating system's
high-water mark, with every block of 64 KiB and more mapped by itself: the C library's heap keeps
holes that differ from run to run. Times are ratios step by step in turn in one process, with the
quartiles: to torch's checkpoint of every layer, and to torch's checkpoint of the same layers or
parts; in the row of torch's checkpoint of every layer they are A/A ratios. Losses are compared bit
for bit with those of no recomputation, and live bytes with torch's for the same: the program fails
where they differ or are more. The last line is the Pareto front of saved bytes and time.

On a GPU live bytes are the allocator's, and the column of resident memory is the time beside no
recomputation with the least that the hardware allows for it (an H100's roofline, of what has to run
again, as a share of forward and backward). Kernels are the deterministic ones; --any-bits takes the
fast ones, and then the losses are only printed.
"""
from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import functools
import gc
import os
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
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import rcore.torch
from rcore.torch import Policy

VOCABULARY = 256  # bytes
M_MMAP_THRESHOLD = -3  # of malloc.h


@dataclasses.dataclass(frozen=True)
class Scale:
    """Where it runs, and how large it is."""

    device: str
    dtype: torch.dtype
    batch: int
    length: int
    budgets: tuple[str, ...]

    def synchronize(self) -> None:
        """Until all that was begun has ended."""
        if self.device != "cpu":
            torch.cuda.synchronize()


SCALES = {
    "cpu": Scale("cpu", torch.float32, 4, 256, ("0.6", "0.4", "0.25")),
    "cuda": Scale("cuda", torch.bfloat16, 1, 8192, ("0.6", "0.4")),
}

#: What of an 8B layer's forward and backward at 8192 tokens has to run again at least, on an H100
#: at 70 % of its peak arithmetic and 85 % of its bandwidth: the part's matrix products but the last
#: one, which saves nothing but its input; a norm's bytes.
FLOORS = {"each layer": 1.26, "chunks of 2": 1.26, "first half": 1.13, "core_attn": 1.047,
          "layernorm": 1.005, "mlp": 1.153, "core_attn + layernorm + mlp": 1.205}


def text() -> torch.Tensor:
    """The bytes of the repository's own documents."""
    root = pathlib.Path(__file__).resolve().parent.parent
    data = b"".join(p.read_bytes() for p in sorted(root.rglob("*.md")) if ".venv" not in p.parts)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).long()


def batch(data: torch.Tensor, step: int, scale: Scale) -> torch.Tensor:
    """The same random rows for every policy."""
    starts = torch.randint(
        len(data) - scale.length, (scale.batch,), generator=torch.Generator().manual_seed(step))
    return torch.stack([data[s:s + scale.length] for s in starts]).to(scale.device)


def models(scale: Scale) -> dict[str, Callable[[], torch.nn.Module]]:
    if scale.device != "cpu":
        return {"llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=VOCABULARY, hidden_size=4096,
                                     intermediate_size=14336, num_hidden_layers=4,
                                     num_attention_heads=32, num_key_value_heads=8,
                                     max_position_embeddings=scale.length, use_cache=False,
                                     attn_implementation="sdpa"))}
    common = dict(vocab_size=VOCABULARY, hidden_size=128, intermediate_size=344,
                  num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
                  use_cache=False, attn_implementation="eager", attention_dropout=0.1)
    return {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**common)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=128, n_layer=8, n_head=4,
                                    n_positions=scale.length, use_cache=False, bos_token_id=0,
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


def policies(moe: bool, half: int) -> dict[str, Any]:
    """Names of the table's rows -> how to run the model; torch's way to the same comes first."""
    feed = "moe" if moe else "mlp"
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
    """The function between the projections; a module of transformers finds it by its name."""
    name, functions = attention.config._attn_implementation, ALL_ATTENTION_FUNCTIONS
    if name == "eager":
        name, functions = "eager_attention_forward", vars(sys.modules[type(attention).__module__])
    function = functions[name]
    if not hasattr(function, "modules"):
        original, modules = function, weakref.WeakSet()

        def function(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            run = again(original) if module in modules else original
            return run(module, *args, **kwargs)

        function.modules = modules
        functions[name] = function
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

    def __init__(self, make: Callable[[], torch.nn.Module], data: torch.Tensor, how: Any,
                 scale: Scale) -> None:
        torch.manual_seed(0)
        with torch.device(scale.device):
            self.model = make().to(scale.dtype).train()
        self.data, self.how, self.scale = data, how, scale
        # Many models stand side by side: on a GPU, without an optimizer's moments.
        optimizer = torch.optim.AdamW if scale.device == "cpu" else torch.optim.SGD
        self.optimizer = optimizer(self.model.parameters(), lr=1e-3)
        self.losses: list[float] = []
        self._applied = contextlib.ExitStack()
        self._applied.enter_context(under(self.model, how))

    def close(self) -> None:
        """Takes the policy off."""
        self._applied.close()

    def step(self) -> float:
        """One step; its time in seconds."""
        ids = batch(self.data, len(self.losses), self.scale)
        torch.manual_seed(1000 + len(self.losses))
        self.scale.synchronize()
        begin = time.perf_counter()
        loss = self.model(input_ids=ids, labels=ids).loss
        loss.backward()
        self.scale.synchronize()
        took = time.perf_counter() - begin
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.losses.append(loss.item())
        return took


def live_peak(trainer: Trainer) -> int:
    """Most bytes of torch's that one step holds at once beyond those it begins with."""
    if trainer.scale.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        trainer.step()
        return torch.cuda.max_memory_allocated() - before
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
          rows: dict[str, Any], scale: Scale, same_bits: bool) -> None:
    trainers = {row: Trainer(make, data, how, scale) for row, how in rows.items()}
    control = Trainer(make, data, Torch(), scale)
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
    on_cpu = scale.device == "cpu"
    print(f"\n### {name}: {millions:.1f} M parameters, {scale.batch} x {scale.length} tokens, "
          f"{'CPU' if on_cpu else torch.cuda.get_device_name()}, {steps} steps, "
          f"loss {losses[0]:.3f} to {losses[-1]:.3f}\n")
    third = "peak resident MiB" if on_cpu else "time / no recomputation (least)"
    print(f"| | peak live MiB | peak saved MiB | {third} | time / torch, each layer | "
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
        live, saved = live_peak(trainer), saved_peak(trainer)
        if on_cpu:
            third = f"{resident_peak(trainer) / 2**20:.1f}"
        else:
            least = FLOORS.get(row.split(", ", 1)[-1])
            third = ratio(row, "no recomputation") + (f" ({least:.3f})" if least else "")
        lives[row] = live
        if saved is not None:
            points.append((saved, statistics.median(times[row]) / statistics.median(times[base]),
                           row))
        shown = "" if saved is None else f"{saved / 2**20:.1f}"
        print(f"| {row} | {live / 2**20:.1f} | {shown} | {third} | "
              f"{ratio(of, base)} | {beside} | {'the same bits' if same[row] else 'DIFFER'} |",
              flush=True)
    for trainer in (*trainers.values(), control):
        trainer.close()
    print("\nfront: " + "; ".join(
        f"{saved / 2**20:.1f} MiB {ratio:.2f} {row}" for saved, ratio, row in front(points)))
    # A layer of a chunk keeps the generator's state of its own begin (5,056 bytes), and a profiled
    # replay is a range of the profiler (8). A GPU's allocator rounds up, to 2 MiB at the most.
    more = 5064 * len(layers_of(control.model)) if on_cpu else 2**21
    larger = [row for row, live in lives.items()
              if live > lives.get(same_by_torch(row), live) + more]
    assert not larger, f"larger than torch's: {larger}"
    assert all(same.values()) or not same_bits, f"losses differ: {same}"


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
    parser.add_argument("--device", choices=list(SCALES), default="cpu")
    parser.add_argument("--any-bits", action="store_true", help="on a GPU: the fast kernels")
    parser.add_argument("--model", choices=list(models(SCALES["cpu"])), action="append")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--policy", action="append", default=[],
                        help="Megatron's flags, in one word")
    parser.add_argument(
        "--budget", action="append",
        help="bytes (12MB) or a share of what keeping everything takes (0.4)")
    parser.add_argument("--policy-json", action="append", default=[],
                        help="a policy in the library's JSON form")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    data, scale = text(), SCALES[options.device]
    makers = models(scale)
    same_bits = options.device == "cpu" or not options.any_bits
    if options.device != "cpu" and same_bits:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    for name in options.model or makers:
        if name not in makers:
            parser.error(f"--model {name}: on a GPU there is {', '.join(makers)}")
        moe = name == "mixtral"
        rows = policies(moe, 2 if moe or scale.device != "cpu" else 4)
        rows.update({flags: Policy.from_args(flags) for flags in options.policy})
        rows.update({
            f"rcore, budget {b}":
                Policy.budget(float(b) if b.replace(".", "", 1).isdigit() and float(b) <= 1 else b)
            for b in options.budget or scale.budgets
        })
        rows.update({path: Policy.from_json(pathlib.Path(path)) for path in options.policy_json})
        table(name, makers[name], data, options.steps, rows, scale, same_bits)


if __name__ == "__main__":
    main()
