# rcore/plan/findings.py: what is wrong or wasteful in a set of Megatron's settings.
"""Every rule of the library on a file of settings, one finding each, and what the memory model
says about them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from rcore.errors import Error
from rcore.plan.errors import InputError
from rcore.plan.library import Policy, evaluate, make_plan
from rcore.plan.megatron import Settings
from rcore.plan.rules import REMEDIES

__all__ = ["Finding", "check", "notes_and_idle", "request_of", "verdict"]

#: Time above the plan at the same memory, as a share of the step, from which settings count as
#: wasteful.
_WASTE = 0.01


@dataclasses.dataclass
class Finding:
    """One line of ``rcore check``."""

    level: str  # "wrong", "wasteful" or "note"
    field: str
    symptom: str
    cause: str
    fix: str
    rule: str = ""


def request_of(
    settings: Settings, layout: dict[str, Any] | None = None, hardware: str = "h100"
) -> dict[str, Any]:
    """A request for the model and the layout that the settings name."""
    return {
        "rcore_plan": 1,
        "model": settings.model(),
        "layout": settings.layout() | (layout or {}),
        "hardware": hardware,
        "fused_norm": settings.fused_norm,
    }


def _rule(message: str) -> tuple[str, str]:
    found = re.search(r"\s*\[([A-Z]+\d+[a-z]?)\]$", message)
    return (message[: found.start()], found.group(1)) if found else (message, "")


def _finding(level: str, field: str, message: str) -> Finding:
    cause, rule = _rule(message.removeprefix(f"{field}: "))
    if not rule and level == "wrong" and cause.endswith("has no effect"):
        level = "wasteful"  # Megatron takes it in silence
    wrong = level == "wrong"
    symptom, fix = REMEDIES.get(
        rule,
        (
            "training stops at start-up" if wrong else "the setting has no effect here",
            "change or drop the setting",
        ),
    )
    return Finding(level, _pointer(field), symptom, cause, fix, rule)


def _pointer(field: str) -> str:
    """The library's ``name[1]`` and ``/name/1`` as one spelling."""
    return re.sub(r"\[(\d+)\]", r"/\1", field).strip("/")


def _drop(policy: dict[str, Any], field: str) -> bool:
    """Takes the offending value out; False where there is none to take."""
    parts = field.strip("/").split("/")
    if parts[0] not in policy or parts[0] in ("rcore_policy", "num_layers"):
        return False
    if len(parts) > 1 and isinstance(policy[parts[0]], list) and parts[1].isdigit():
        policy[parts[0]].pop(int(parts[1]))
    else:
        policy.pop(parts[0])
    return True


def _refusals(policy: dict[str, Any], strict: bool) -> tuple[list[Finding], Policy | None]:
    """Every rule in turn: what a rule refuses is taken out before the next try."""
    found: list[Finding] = []
    left = {k: list(v) if isinstance(v, list) else v for k, v in policy.items()}
    if strict:
        left["strict_megatron"] = True
    for _ in range(64):
        try:
            return found, Policy.from_json(left)
        except Error as error:
            found.append(_finding("wrong", error.field, str(error)))
            if not _drop(left, error.field):
                return found, None
    return found, None


def _settings_findings(settings: Settings) -> list[Finding]:
    found = []
    if settings.get("sequence_parallel") and settings.count("tensor_model_parallel_size", 1) == 1:
        found.append(
            Finding(
                "note",
                "sequence_parallel",
                "no saving: Megatron switches it off with a warning",
                "tensor_model_parallel_size is 1, there is nobody to split over",
                "drop it, or raise the tensor-parallel size",
            )
        )
    if "recompute_num_layers" in settings and settings.count("recompute_num_layers") > 1 and \
            settings.get("recompute_method") == "uniform":
        found.append(
            Finding(
                "note",
                "recompute_num_layers",
                "out of memory in backward although recompute is on",
                f"uniform with {settings.count('recompute_num_layers')} layers keeps fewer inputs "
                "and brings "
                "that many layers back at once; the recomputation is the same",
                "set 1, unless the inputs themselves do not fit",
            )
        )
    if (
        settings.get("fp8_dot_product_attention")
        and "core_attn" in (settings.get("recompute_modules") or ["core_attn"])
        and settings.get("recompute_granularity") == "selective"
    ):
        found.append(
            Finding(
                "wasteful",
                "recompute_modules",
                "other numbers than without recompute",
                "a normal checkpoint does not restore the FP8 autocast around core_attn",
                "drop core_attn",
            )
        )
    return found


def _slowest(ranks: list[dict[str, Any]], extra: str) -> float:
    return max(
        r["forward_seconds"] + r["backward_seconds"] + r[extra] + r.get("exposed_seconds", 0)
        for r in ranks
    )


def _policy_notes(policy: Policy) -> list[Finding]:
    """What a setting of the policy does not do although one may expect it."""
    return [_finding("note", field, message) for field, message in policy.notes()]


def _modules_without_effect(request: dict[str, Any], policy: dict[str, Any]) -> list[Finding]:
    """Each module of a selective set alone: bytes freed, time taken."""
    if policy.get("recompute_granularity") != "selective" and not policy.get(
        "recompute_activations"
    ):
        return []
    found = []
    modules = policy.get("recompute_modules") or ["core_attn"]
    for i, module in enumerate(modules):
        alone = {
            k: v
            for k, v in policy.items()
            if k not in ("offload_modules", "fine_grained_activation_offloading")
        }
        alone["recompute_modules"] = [module]
        try:
            ranks = evaluate(request, Policy.from_json(alone))["ranks"]
        except Error:
            continue
        if sum(r["dropped_bytes"] for r in ranks):
            continue
        cost = max(
            r["checkpoint_seconds"] / (r["forward_seconds"] + r["backward_seconds"]) for r in ranks
        )
        found.append(
            Finding(
                "wasteful" if cost > 0 else "note",
                f"recompute_modules/{i}",
                "no saving at all",
                f"{module} frees 0 bytes here"
                + (f" and costs {100 * cost:.1f} % of a step" if cost else ""),
                f"drop {module}",
            )
        )
    return found


def notes_and_idle(
    request: dict[str, Any], policy: Policy
) -> tuple[list[Finding], list[Finding]]:
    """The policy's notes, and its modules without effect. Where a rule and the memory model speak
    of one module, the finding with figures stays and takes the rule's reason."""
    idle = _modules_without_effect(request, policy.describe())
    by_field = {finding.field: finding for finding in idle}
    left = []
    for note in _policy_notes(policy):
        finding = by_field.get(note.field)
        if finding is None:
            left.append(note)
            continue
        finding.cause += f"; {note.cause.rpartition(': ')[2]}"
        if note.rule:
            finding.symptom, finding.fix, finding.rule = note.symptom, note.fix, note.rule
    return left, idle


def _without(policy: dict[str, Any], idle: list[Finding]) -> Policy | None:
    """The policy once the modules of these findings are dropped; None where none is left."""
    drop = {int(finding.field.rpartition("/")[2]) for finding in idle}
    modules = policy.get("recompute_modules") or ["core_attn"]
    left = [m for i, m in enumerate(modules) if i not in drop]
    return Policy.from_json(policy | {"recompute_modules": left}) if left else None


def _waste(request: dict[str, Any], policy: Policy) -> list[Finding]:
    """The least time at the memory these settings need, against the time they take."""
    ranks = evaluate(request, policy)["ranks"]
    took = _slowest(ranks, "checkpoint_seconds")
    if not any(r["checkpoint_seconds"] + r["exposed_seconds"] for r in ranks):
        return []
    plan = make_plan(
        request
        | {
            "budget_bytes": [r["peak_bytes"] for r in ranks],
            "options": ["recompute"],
            "compare": True,
        }
    )
    least = plan["step_seconds"]
    if took / least - 1 <= _WASTE:
        return []
    better = [
        h for h in plan["hand_policies"] if h["fits"] and h["step_seconds"] < took * (1 - _WASTE)
    ]
    best = min(better, key=lambda h: h["step_seconds"], default=None)
    fix = "ask rcore plan for the fastest policy in that memory"
    if best:
        what = best["flags"].strip("()")
        fix = f"{what}: {100 * (took / best['step_seconds'] - 1):.1f} % faster in that memory"
    return [
        Finding(
            "wasteful",
            "recompute_granularity",
            "slower than expected",
            f"a step takes {100 * (took / least - 1):.1f} % longer than the same memory needs",
            fix,
        )
    ]


def check(settings: Settings, hardware: str = "h100") -> list[Finding]:
    """All findings, the wrong ones first."""
    policy_form = settings.policy()
    found, policy = _refusals(policy_form, strict=True)
    plain, _ = _refusals(policy_form, strict=False)
    only_megatron = {(f.field, f.cause) for f in found} - {(f.field, f.cause) for f in plain}
    for finding in found:
        if (finding.field, finding.cause) in only_megatron:
            finding.fix += "; rcore does it"
    notes: list[Finding] = []
    if policy is not None:
        notes = _policy_notes(policy)
    found += _settings_findings(settings)
    found += [Finding("note", "", "", remark, "") for remark in settings.remarks]
    if policy is not None and settings.names_a_model:
        try:
            request = request_of(settings, hardware=hardware)
            notes, idle = notes_and_idle(request, policy)
            found += idle
            rest = _without(policy.describe(), idle) if idle else policy
            if rest is not None:
                found += _waste(request, rest)
        except Error as error:
            if isinstance(error, InputError):
                raise
            found.append(
                Finding(
                    "note",
                    error.field.strip("/"),
                    "the memory model has no figures for these settings",
                    str(error).removeprefix(f"{error.field}: "),
                    "",
                )
            )
    found += notes
    order = {"wrong": 0, "wasteful": 1, "note": 2}
    return sorted(found, key=lambda f: order[f.level])


def verdict(found: list[Finding]) -> str:
    """``wrong``, ``wasteful`` or ``fine``."""
    levels = {f.level for f in found}
    return "wrong" if "wrong" in levels else "wasteful" if "wasteful" in levels else "fine"
