# rcore/cli/plan.py: `rcore plan`: the cheapest way to fit a budget, and what Megatron's settings
# lose against it.
"""Model, layout and budget to a table, a policy and a chart."""
from __future__ import annotations

import argparse
import json
import pathlib
import re
from typing import Any

from rcore.cli.chart import draw
from rcore.cli.options import add_layout, gigabytes, hardware_of, layout_of, parse_bytes
from rcore.cli.table import JOINT, ranges, table
from rcore.plan.errors import InputError
from rcore.plan.library import describe_inventory, make_plan
from rcore.plan.models import Subject, find_model

__all__ = ["add_parser", "request_from"]


def add_parser(commands: Any) -> None:
    """Adds the arguments of ``rcore plan``."""
    p = commands.add_parser("plan", help="what to keep, recompute and offload under a budget")
    p.add_argument(
        "model",
        metavar="MODEL",
        help="config.json, Megatron's YAML, script or flags in quotes, or a built-in name",
    )
    p.add_argument(
        "--budget",
        metavar="SIZE",
        help="activation memory of one GPU: 60GB, or 50%% of keeping everything",
    )
    p.add_argument(
        "--memory",
        metavar="SIZE",
        help="instead: of the whole GPU; weights, gradients and optimizer come off",
    )
    p.add_argument(
        "--reserve", metavar="SIZE", default="4GB", help="with --memory: for all else (default 4GB)"
    )
    p.add_argument("--options", default="recompute,offload,split", metavar="LIST",
                   help="of recompute, offload, split, compress (lossy)")
    p.add_argument(
        "--token-split",
        action="store_true",
        help="tensors may be cut along their tokens; a policy cannot say that, so the cuts are "
        "listed",
    )
    p.add_argument(
        "--move-boundaries",
        action="store_true",
        help="layers may change pipeline ranks (one chunk a rank)",
    )
    p.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="of each rank's search, then the best plan and how far it can be from the optimum "
        "(default 10)",
    )
    p.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the policy (standard output without FILE)",
    )
    p.add_argument("--report", metavar="FILE", help="write the whole report as JSON")
    p.add_argument("--chart", metavar="FILE", help="draw the recompute-offload-keep curve as SVG")
    p.add_argument("--layers", action="store_true", help="list the layers of each decision")
    add_layout(p)
    p.set_defaults(run=run)


def request_from(options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """The request without a budget."""
    fused = (
        options.fused_norm
        if options.fused_norm is not None
        else bool(subject.settings and subject.settings.fused_norm)
    )
    return {"rcore_plan": 1, "model": subject.model, "layout": layout_of(options, subject.layout),
            "hardware": hardware_of(options.hardware), "fused_norm": fused}


def _budget(options: argparse.Namespace, request: dict[str, Any]) -> dict[str, Any]:
    if options.budget and options.memory:
        raise InputError("--budget and --memory: one of them says it")
    if options.budget and options.budget.strip().endswith("%"):
        share = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", options.budget)
        if not share or not 0 < float(share[1]) <= 100:
            raise InputError(
                f"--budget: {options.budget!r} is no percentage above 0% and at most 100%"
            )
        return {"budget_fraction": float(share[1]) / 100}
    if options.budget:
        return {"budget_bytes": parse_bytes(options.budget, "--budget")}
    if not options.memory:
        raise InputError("--budget or --memory is missing: how much may a GPU hold?")
    whole = parse_bytes(options.memory, "--memory") - parse_bytes(options.reserve, "--reserve")
    left = [whole - rank["state_bytes"] for rank in describe_inventory(request)["ranks"]]
    if min(left) <= 0:
        rank = left.index(min(left))
        raise InputError(f"--memory: weights, gradients and optimizer of rank {rank} take "
                         f"{gigabytes(whole - left[rank])} GB; raise --dp, --tp or --pp")
    return {"memory_bytes": whole}


def _decisions(rank: dict[str, Any], action: str, with_layers: bool) -> str:
    total = sum(len(chunk) for chunk in rank["layers"])
    by_tensor: dict[str, list[int]] = {}
    for decision in rank["decisions"]:
        if decision["action"] == action:
            by_tensor.setdefault(decision["tensor"], []).extend(decision["layers"])
    parts = []
    for tensor, layers in by_tensor.items():
        where = (
            f"[{ranges(layers)}]"
            if with_layers
            else ""
            if len(layers) == total
            else f"{JOINT}{len(layers)}/{total}"
        )
        parts.append(tensor + where)
    return ", ".join(parts)


def _units(rank: dict[str, Any]) -> str:
    """Layers that are run again together: ``2 x 12, 3 x 4`` is 12 units of two layers and 4 of
    three."""
    sizes: dict[int, int] = {}
    for unit in rank.get("units", []):
        sizes[unit["n_layers"]] = sizes.get(unit["n_layers"], 0) + 1
    parts = [JOINT.join((str(size), "x", str(sizes[size]))) for size in sorted(sizes)]
    return ", ".join(parts) or "-"


def _table(report: dict[str, Any], with_layers: bool) -> str:
    used = [a for a in ("recompute", "offload", "split", "compress")
            if any(d["action"] == a for r in report["ranks"] for d in r["decisions"])]
    in_units = any("units" in r for r in report["ranks"])
    rows = []
    for rank in report["ranks"]:
        rows.append(
            [
                str(rank["rank"]),
                str(sum(len(c) for c in rank["layers"])),
                gigabytes(rank["keep_all_peak_bytes"]),
                gigabytes(rank["budget_bytes"]),
                gigabytes(rank["peak_bytes"]),
                gigabytes(rank["keep_all_peak_bytes"] - rank["peak_bytes"]),
                f"{100 * rank['overhead']:.2f}%",
                *([_units(rank)] if in_units else []),
                *(_decisions(rank, a, with_layers) or "-" for a in used),
            ]
        )
    return table(
        [
            "rank",
            "layers",
            "keep all",
            "budget",
            "peak",
            "freed",
            "cost",
            *(["units"] if in_units else []),
            *used,
        ],
        rows,
    )


def _nearest(report: dict[str, Any]) -> str:
    hands = report["hand_policies"]
    fitting = [h for h in hands if h["fits"]]
    if not fitting:
        least = min(hands, key=lambda h: h["peak_bytes"])
        return (f"No setting of Megatron fits. The smallest, {least['flags']}, peaks at "
                f"{gigabytes(least['peak_bytes'])} GB.")
    best = min(fitting, key=lambda h: (h["step_seconds"], h["peak_bytes"]))
    loss = best["step_seconds"] / report["step_seconds"] - 1
    return (
        f"Nearest in Megatron: {best['flags']}\n"
        f"  peak {gigabytes(best['peak_bytes'])} GB, "
        f"a step takes {100 * loss:.2f} % longer than the plan's."
    )


def _proof(report: dict[str, Any]) -> str:
    certificates = [r["certificate"] for r in report["ranks"]]
    if all(c["optimal"] for c in certificates):
        again = (
            " The checker proved the bounds again."
            if all(c["checked"]["bound"] for c in certificates)
            else ""
        )
        return f"Proven optimal on every rank.{again}"
    unproven = [r for r in report["ranks"] if not r["certificate"]["optimal"]]
    gap = max(
        (r["certificate"]["objective_ps"] - r["certificate"]["lower_bound_ps"])
        * 1e-12
        / (r["forward_seconds"] + r["backward_seconds"] + r["replay_seconds"])
        for r in unproven
    )
    within = f"within {100 * gap:.2g} % of the time of an optimal step, proven"
    if len(unproven) == len(certificates):
        return f"{within.capitalize()}."
    ranks = ", ".join(str(r["rank"]) for r in unproven)
    proven = len(certificates) - len(unproven)
    return f"Proven optimal on {proven} of {len(certificates)} ranks; on rank {ranks} {within}."


def _cuts(report: dict[str, Any]) -> str:
    """What a token split asks of the host beyond the policy, one line for each cut tensor."""
    lines = []
    for rank in report["ranks"]:
        for cut, lack in zip(rank.get("cuts", []), rank.get("policy_lacks", [])):
            parts = ", ".join(
                f"{cut[key]} {what}"
                for key, what in (
                    ("kept_rows", "kept"),
                    ("offloaded_rows", "offloaded"),
                    ("recomputed_rows", "recomputed"),
                )
                if cut[key]
            )
            lines.append(
                f"  rank {rank['rank']}, layer {lack['layer']}, {lack['tensor']}: of its tokens "
                f"{parts}; "
                f"the policy says {lack['whole']} for all"
            )
    if not lines:
        return ""
    return (
        "The figures are those of tensors cut along their tokens. A policy cannot say that; your "
        "code must make these "
        "cuts, or the\npolicy moves or recomputes a tensor more:\n" + "\n".join(lines)
    )


def run(options: argparse.Namespace) -> int:
    """Prints the plan and writes the files asked for; returns 0."""
    request = request_from(options, find_model(options.model))
    allowed = [o.strip() for o in options.options.split(",") if o.strip()]
    request |= {"options": allowed, "token_split": options.token_split, "compare": True}
    if options.move_boundaries:
        request["move_boundaries"] = True
    if options.time_limit is not None:
        request["time_limit_seconds"] = options.time_limit
    report = make_plan(request | _budget(options, request))
    policy = json.dumps(report["policy"], indent=2)
    if options.json == "-":
        print(policy)
    else:
        layout = request["layout"]
        print(
            f"{report['model']} on {report['hardware']}, sequence {layout['seq_length']}; "
            "activations of one GPU in GB, "
            "cost in % of forward and backward\n"
        )
        print(_table(report, options.layers), end="\n\n")
        print(_nearest(report))
        print(_proof(report))
        if cuts := _cuts(report):
            print(cuts)
    if options.json and options.json != "-":
        _write(options.json, policy + "\n")
    if options.report:
        _write(options.report, json.dumps(report, indent=1) + "\n")
    if options.chart:
        _write(options.chart, draw(request, report))
    return 0


def _write(path: str, text: str) -> None:
    try:
        pathlib.Path(path).write_text(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
