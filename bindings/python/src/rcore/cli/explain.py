# rcore/cli/explain.py: `rcore explain`: what a policy or a set of flags saves and costs, rank by
# rank.
"""Policy and model to a table, with what does nothing pointed out."""
from __future__ import annotations

import argparse
import json
import os
from typing import Any

from rcore.cli.options import add_layout, gigabytes
from rcore.cli.plan import request_from
from rcore.cli.table import table
from rcore.plan.errors import InputError
from rcore.plan.findings import notes_and_idle
from rcore.plan.library import Policy, describe_inventory, evaluate
from rcore.plan.megatron import Settings, read_settings
from rcore.plan.models import find_model, read_file

__all__ = ["add_parser"]

# Members of a policy that the layout and the model decide.
_FROM_LAYOUT = {
    "tensor_model_parallel_size",
    "sequence_parallel",
    "context_parallel_size",
    "expert_model_parallel_size",
    "pipeline_model_parallel_size",
    "virtual_pipeline_model_parallel_size",
    "layers_per_virtual_stage",
    "num_layers_in_first_pipeline_stage",
    "num_layers_in_last_pipeline_stage",
    "num_microbatches",
}


def add_parser(commands: Any) -> None:
    """Adds the arguments of ``rcore explain``."""
    p = commands.add_parser("explain", help="what a policy or a set of flags saves and costs")
    p.add_argument(
        "policy",
        metavar="POLICY",
        help="a policy's JSON, Megatron's YAML or argument file, or flags in quotes",
    )
    p.add_argument("model", metavar="MODEL", help="as for plan")
    add_layout(p)
    p.set_defaults(run=run)


def _read_policy(text: str) -> dict[str, Any]:
    inline = text.lstrip().startswith(("-", "{"))
    if not inline and not os.path.isfile(text):
        raise InputError(f"{text}: no such file, no flags and no JSON")
    source = "arguments" if inline else text
    content = text if inline else read_file(text)
    if content.lstrip().startswith("{"):
        try:
            return json.loads(content)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{source}: line {error.lineno}, column {error.colno}: {error.msg}"
            ) from None
    settings: Settings = read_settings(content, source)
    return {
        k: v
        for k, v in settings.policy().items()
        if k not in ("fused_attention", "fused_norm") or source != "arguments"
    }


def _completed(policy: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """The policy under the request's layout and model."""
    own = {k: v for k, v in policy.items() if k not in _FROM_LAYOUT}
    layout = {k: v for k, v in request["layout"].items() if k in _FROM_LAYOUT}
    inventory = describe_inventory(request)
    tensors = [t for c in inventory["classes"] for t in c["tensors"]]
    own["num_layers"] = sum(len(chunk) for rank in inventory["ranks"] for chunk in rank["layers"])
    if any(c["name"] == "moe" for c in inventory["classes"]):
        model = request["model"]
        freq = model.get("moe_layer_freq") if isinstance(model, dict) else None
        if "moe_layers" not in own:
            own.setdefault("moe_layer_freq", freq or _sparse_layers(inventory))
        own.setdefault("moe_grouped_gemm", True)
    if any(t["name"] == "latents" for t in tensors):
        own.setdefault("multi_latent_attention", True)
    if not any(t["name"] == "probs" for t in tensors):
        own.setdefault("fused_attention", True)
    if request.get("fused_norm"):
        own.setdefault("fused_norm", True)
    return own | layout


def _sparse_layers(inventory: dict[str, Any]) -> list[int]:
    """Dense layers come first in every built-in model."""
    by_name = {c["name"]: c["layers"] for c in inventory["classes"]}
    return [0] * by_name.get("dense", 0) + [1] * by_name["moe"]


def run(options: argparse.Namespace) -> int:
    """Prints what the policy saves and costs on each rank; returns 0."""
    request = request_from(options, find_model(options.model))
    form = _completed(_read_policy(options.policy), request)
    policy = Policy.from_json(form)
    ranks = evaluate(request, policy)["ranks"]
    rows = []
    for i, r in enumerate(ranks):
        step = r["forward_seconds"] + r["backward_seconds"]
        rows.append(
            [
                str(i),
                gigabytes(r["keep_all_peak_bytes"]),
                gigabytes(r["peak_bytes"]),
                f"{100 * (1 - r['peak_bytes'] / max(1, r['keep_all_peak_bytes'])):.1f}%",
                gigabytes(r["dropped_bytes"]),
                gigabytes(r["offloaded_bytes"]),
                f"{100 * (r['checkpoint_seconds'] + r['exposed_seconds']) / step:.2f}%",
                f"{100 * (r['replay_seconds'] + r['exposed_seconds']) / step:.2f}%",
            ]
        )
    print(
        "GB of one GPU's activations; dropped and offloaded for one microbatch; cost in % of "
        "forward and backward\n"
    )
    print(
        table(
            [
                "rank",
                "keep all",
                "peak",
                "saved",
                "dropped",
                "offloaded",
                "cost in Megatron",
                "cost in rcore",
            ],
            rows,
        )
    )
    notes, idle = notes_and_idle(request, policy)
    if idle or notes:
        print()
    for finding in idle:
        print(f"no effect: {finding.cause}; {finding.fix}")
    for note in notes:
        print(f"note: {note.field}: {note.cause}" + (f" [{note.rule}]" if note.rule else ""))
    return 0
