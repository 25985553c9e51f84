# rcore/torch/applied.py: a policy on a model, and taken off again.
"""What apply() returns, and remove()."""
from __future__ import annotations

import functools
import weakref
from typing import Any, Protocol
from collections.abc import Callable

from torch import nn

from rcore import _core
from rcore.torch.models import Found, KindMapping, Place, find_places, places_of_rules
from rcore.torch.observing import Observer
from rcore.torch.policy import Policy
from rcore.torch.stand_ins import (AttentionRegion, Region, attention_functions,
                                   release_attention)

__all__ = ["Applied", "Budget", "applied_to", "put_on", "remove"]

# The numbers of rcore.h.
_ROLE_OUTPUT = 3
_RECOMPUTE = 1
_BUILT_IN = frozenset(
    ("core_attn", "mlp", "moe", "shared_experts", "layer", "qkv_linear", "attn_proj", "expert_fc1",
     "fused_group_mlp", "layernorm", "moe_act", "mla_up_proj", "gdn_norm_out", "gdp_in_proj",
     "gdp_qkv", "mhc", "attn_norm", "mlp_norm"))

_applied: weakref.WeakKeyDictionary[nn.Module, Applied] = weakref.WeakKeyDictionary()


class Budget(Protocol):
    """A model's forward that plans its own policy."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's forward."""

    def close(self) -> None:
        """Ends what is measured."""

    def describe(self) -> dict[str, Any] | None:
        """The plan that holds now."""


class Applied:
    """A policy on a model: what ``apply`` returns. ``with apply(model, policy):`` takes it off at
    the end.

    Attributes:
        policy: as given.
        found: what was recognised in the model.
        table: the library's own form of the policy, completed by what the model is.
        context: the core's counters and report.
        modules: the registered module of each place, in the order of the model.
        budget: what was planned and measured, under ``Policy.budget``.
        observer: of the warm-up forward that runs now.
    """

    def __init__(self, model: nn.Module, policy: Policy, mapping: KindMapping | None) -> None:
        self._model = weakref.ref(model)
        self.policy = policy
        self.found: Found = find_places(model, mapping)
        places, kinds, rules, dead = places_of_rules(model, self.found, policy.paths)
        taken = {p.path for p in places}
        self.places = [p for p in self.found.places if p.path not in taken] + places
        facts = self.found.facts()
        known = {k["name"] if isinstance(k, dict) else k for k in policy.settings.get("kinds", ())}
        mapped = sorted({p.kind for p in self.found.places} - _BUILT_IN - known)
        if kinds or mapped:
            facts["kinds"] = kinds + mapped
        if rules:
            facts["rules"] = rules
        self._facts = facts
        self._regions: list[Region] = []
        self.observer: Observer | None = None
        self.budget: Budget | None = None
        self._undo: list[Callable[[], None]] = []
        self.adopt(policy if policy.limit is None else self.warm_up())
        self.dead_rules = [f"path {r.path!r}" for r in dead] + self._dead_kinds()

    def adopt(self, policy: Policy) -> None:
        """Takes a policy for the regions that begin from now on; what has begun goes on as it was.
        """
        self.table = policy.check(**self._facts)
        self.context = _core.make_context()
        self.context.configure(self.table)
        self.modules: list[tuple[Place, _core.Module]] = []
        self._registered: dict[int, _core.Module] = {}
        for region in self._regions:
            region.adopt()

    def warm_up(self) -> Policy:
        """What a warm-up runs under: each layer recomputed, or else each place that is found."""
        kinds = self.kinds()
        kinds = ["layer"] if "layer" in kinds else kinds
        return Policy(rules=[{"kind": k, "action": "recompute"} for k in kinds])

    def kinds(self) -> list[str]:
        """The kinds that were found, in the order of the model."""
        return list(dict.fromkeys(p.kind for p in self.places))

    def discarding_kinds(self) -> list[str]:
        """Those whose outputs go where a policy recomputes them."""
        everything = Policy(rules=[{"kind": k, "action": "recompute"} for k in self.kinds()]).check(
            **self._facts)
        return [
            k for k in self.kinds()
            if k != "layer" and everything.decide(k, 0, _ROLE_OUTPUT)["action"] == _RECOMPUTE
        ]

    def _dead_kinds(self) -> list[str]:
        settings = self.policy.settings
        asked = list(settings.get("recompute_modules") or ())
        if settings.get("recompute_granularity") == "selective" and not asked:
            asked = ["core_attn"]
        asked += [
            r["kind"] for r in settings.get("rules", ()) if isinstance(r, dict) and r.get("kind")
        ]
        if settings.get("recompute_granularity") == "full":
            asked.append("layer")
        kinds = {p.kind for p in self.places}
        if {"attn_norm", "mlp_norm"} & kinds:
            kinds.add("layernorm")
        return [f"kind {kind!r}" for kind in dict.fromkeys(asked) if kind not in kinds]

    def discards_in(self, layer: int) -> bool:
        """Whether any output in that layer is discarded."""
        kinds = {p.kind for p in self.places if p.layer == layer and p.kind != "layer"}
        return any(
            self.table.decide(kind, layer, _ROLE_OUTPUT)["action"] == _RECOMPUTE for kind in kinds)

    def module_of(self, place: Place) -> _core.Module:
        """The core's module of a place."""
        if id(place) not in self._registered:
            self._registered[id(place)] = self._register(place)
        return self._registered[id(place)]

    def _register(self, place: Place) -> _core.Module:
        module = _core.make_module(self.context, self.table, place.kind, place.path or place.kind,
                                   place.layer)
        self.modules.append((place, module))
        return module

    def install(self) -> None:
        """Puts the regions in place."""
        for place in self.places:
            if place.method == "attention":
                self._install_attention(place)
            else:
                self._install_method(place)

    def plan_with(self, budget: Budget, model: nn.Module) -> None:
        """Runs the model's forward through what plans its policy."""
        self.budget = budget
        self._undo.append(budget.close)
        self._put(model, "forward", budget)

    def _install_method(self, place: Place) -> None:
        region = Region(self, place, getattr(place.module, place.method))
        self._regions.append(region)
        self._put(place.module, place.method, region)

    def _put(self, module: nn.Module, name: str, stand_in: Callable[..., Any]) -> None:
        before = module.__dict__.get(name)
        module.__dict__[name] = stand_in

        def undo() -> None:
            if before is None:
                module.__dict__.pop(name, None)
            else:
                module.__dict__[name] = before

        self._undo.append(undo)

    def _install_attention(self, place: Place) -> None:
        for function in attention_functions(place.module):
            region = AttentionRegion(self, place, function.original)
            self._regions.append(region)
            self._put(place.module, function.attribute, region)
            function.users.add(place.module)
            self._undo.append(functools.partial(release_attention, function, place.module))

    def uninstall(self) -> None:
        """Takes the regions away."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, *error: Any) -> None:
        model = self._model()
        if model is not None and _applied.get(model) is self:
            remove(model)

    def stats(self) -> dict[str, int]:
        """The core's counters for this model."""
        return self.context.stats()


def put_on(model: nn.Module, applied: Applied) -> None:
    """``applied_to`` and ``remove`` find it from now on."""
    _applied[model] = applied


def applied_to(model: nn.Module) -> Applied | None:
    """What is applied to a model."""
    return _applied.get(model)


def remove(model: nn.Module) -> bool:
    """Takes a policy off a model again; False if there was none."""
    applied = _applied.pop(model, None)
    if applied is not None:
        applied.uninstall()
    return applied is not None
