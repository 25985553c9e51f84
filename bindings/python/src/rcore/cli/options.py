# rcore/cli/options.py: options that the commands share, and numbers with units.
"""The layout on the command line, in short names."""
from __future__ import annotations

import argparse
import json
import math
import pathlib
import re
from typing import Any

from rcore.errors import Error
from rcore.plan.errors import InputError
from rcore.plan.hardware import measure_processor
from rcore.plan.pipeline_layout import layers_per_stage

__all__ = ["add_layout", "gigabytes", "hardware_of", "in_options", "layout_of", "parse_bytes"]

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_SHORT = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "cp": "context_parallel_size",
    "vpp": "virtual_pipeline_model_parallel_size",
    "ep": "expert_model_parallel_size",
    "etp": "expert_tensor_parallel_size",
    "dp": "data_parallel_size",
    "seq": "seq_length",
    "mbs": "micro_batch_size",
    "microbatches": "num_microbatches",
}
_FIELDS = {
    "/model": "MODEL",
    "/budget_bytes": "--budget",
    "/budget_fraction": "--budget",
    "/memory_bytes": "--memory",
    "/options": "--options",
    "/hardware": "--hardware",
    "/time_limit_seconds": "--time-limit",
}


def in_options(error: Error, options: argparse.Namespace) -> str:
    """The error in one line, of the option that it is about where that was given, and large
    numbers of bytes in GB too.
    """
    flags = dict(_FIELDS)
    for short, name in _SHORT.items():
        if getattr(options, short, None) is not None:
            flags[f"/layout/{name}"] = f"--{short}"
    # Layers that do not spread, over the ranks that were asked for.
    if ranks := getattr(options, "pp", None):
        flags["/layout/num_layers"] = f"--pp {ranks}"
    text = " ".join(str(error).split())
    for field, flag in flags.items():
        if error.field == field or error.field.startswith(f"{field}/"):
            text = flag + text.removeprefix(error.field)
    if error.status != "RC_E_BUDGET":
        return text
    # Rounded up: what is said to do has to.
    return re.sub(
        r"(\d{6,})( bytes)?",
        lambda n: f"{n[1]} bytes ({math.ceil(int(n[1]) / 1e7) / 100:.2f} GB)",
        text,
    )


def parse_bytes(text: str, option: str) -> int:
    """``60GB`` is 60,000,000,000; ``60GiB`` is 60 * 2**30."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not found or found.group(2).upper() not in _UNITS:
        raise InputError(f"{option}: {text!r} is no size; write 60GB, 512MB or 40GiB")
    return int(float(found.group(1)) * _UNITS[found.group(2).upper()])


def gigabytes(count: float) -> str:
    """Bytes as ``1.23``, in 10**9."""
    return f"{count / 1e9:.2f}"


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Sizes that a file may have set already; the command line wins."""
    group = parser.add_argument_group("layout")
    for short in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "seq", "mbs", "microbatches"):
        group.add_argument(
            f"--{short}", type=int, metavar="N", help=_SHORT[short].replace("_", " ")
        )
    group.add_argument("--sp", action="store_true", default=None, help="sequence parallel")
    group.add_argument("--first-stage-layers", type=int, metavar="N")
    group.add_argument("--last-stage-layers", type=int, metavar="N")
    group.add_argument(
        "--stages",
        metavar="LAYOUT",
        help="layers of each virtual stage: 4,4,3 or Megatron's Et*3|(tt|)*6tL",
    )
    group.add_argument("--fp8", choices=["delayed", "tensorwise", "blockwise", "mxfp8"])
    group.add_argument(
        "--hardware",
        default="h100",
        metavar="NAME",
        help="a100, h100 (default), h200, b200, cpu (measured now), or a JSON file",
    )
    group.add_argument(
        "--fused-norm",
        action="store_true",
        default=None,
        help="norms run inside the linear behind them (Transformer Engine's dense layers)",
    )


def layout_of(options: argparse.Namespace, from_file: dict[str, Any]) -> dict[str, Any]:
    """The member ``layout`` of a request."""
    layout = dict(from_file)
    for short, name in _SHORT.items():
        if getattr(options, short) is not None:
            layout[name] = getattr(options, short)
    if options.sp:
        layout["sequence_parallel"] = True
    if options.fp8:
        layout["fp8"] = options.fp8
    if options.first_stage_layers is not None:
        layout["num_layers_in_first_pipeline_stage"] = options.first_stage_layers
    if options.last_stage_layers is not None:
        layout["num_layers_in_last_pipeline_stage"] = options.last_stage_layers
    if options.stages:
        text = options.stages
        plain = re.fullmatch(r"\d+(,\d+)*", text)
        stages = [int(n) for n in text.split(",")] if plain else layers_per_stage(text)
        layout["layers_per_virtual_stage"] = stages
        pp = layout.get("pipeline_model_parallel_size", 1)
        if len(stages) % pp:
            raise InputError(f"--stages: {len(stages)} stages, the pipeline has {pp} ranks")
        layout["virtual_pipeline_model_parallel_size"] = len(stages) // pp
    if layout.get("tensor_model_parallel_size", 1) == 1 and not options.sp:
        layout.pop("sequence_parallel", None)
    layout.setdefault("seq_length", 4096)
    return layout


def hardware_of(name: str) -> Any:
    """A name, the object in a JSON file, or this processor as it is measured now."""
    if name == "cpu":
        return measure_processor()
    if not name.endswith(".json"):
        return name
    try:
        return json.loads(pathlib.Path(name).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"--hardware: {name}: {error}") from None
