# rcore/torch/applied.py: a policy applied to a model, and taken off again.
"""apply() and remove()."""
from __future__ import annotations

import functools
import sys
import warnings
import weakref
from typing import Any, Callable

import torch
from torch import nn
from torch.compiler import is_compiling

from rcore import _core
from rcore.errors import Error
from rcore.torch import checkpointing, diagnose
from rcore.torch.budgeted import Budgeted
from rcore.torch.engine import Flag, torch_checkpoint
from rcore.torch.errors import UnusedRuleWarning
from rcore.torch.models import Found, KindMapping, Place, find_places, places_of_rules
from rcore.torch.observing import Observer
from rcore.torch.policy import Policy
from rcore.torch.state import with_guard

__all__ = ["Applied", "apply", "applied_to", "enable_gradient_checkpointing", "remove"]

_CACHES = ("past_key_values", "past_key_value", "layer_past")
_FLAGS = int(Flag.PRESERVE_RNG | Flag.EARLY_STOP | Flag.CHECK_HEADERS | Flag.BY_POLICY)
_applied: "weakref.WeakKeyDictionary[nn.Module, Applied]" = weakref.WeakKeyDictionary()


class _Gathered:
    """A layer's forward that can be replayed for the layer behind it, before its own backward.

    FSDP2 gathers the parameters of a layer around its call and just before its backward; a chunk of
    layers is replayed at once, by their methods, in the backward of its last one.
    """

    def __init__(self, module: nn.Module, original: Callable[..., Any]) -> None:
        self.__self__, self._original = module, original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _core.is_replaying() and hasattr(self.__self__, "unshard"):
            self.__self__.unshard()  # the end of its backward frees them again
        return self._original(*args, **kwargs)


class _Region:
    """Stands in for one method of one module and runs it as a region; pickled and copied, it is the
    method itself.
    """

    def __init__(self, applied: "Applied", place: Place, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original, updated=())
        self._applied, self._place, self._original = applied, place, original
        self._is_layer = place.kind == "layer"
        self.adopt()

    def adopt(self) -> None:
        """Runs as the policy says that is applied now."""
        self._module = self._applied.module_of(self._place)
        in_chunk = self._is_layer and self._module.unit_layers > 1
        self._function = (_Gathered(self._place.module, self._original)
                          if in_chunk else self._original)
        self._flags = _FLAGS | (int(Flag.DISCARDS)
                                if self._module.discards and not self._is_layer else 0)
        # What is inside a layer that is recomputed as a whole is discarded with it.
        self._scope = self._is_layer and not self._module.recomputes and self._applied.discards_in(
            self._place.layer)

    def __reduce__(self) -> tuple:
        return getattr, (self._place.module, self._place.method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return self._compiled(*args, **kwargs)
        if not torch.is_grad_enabled():
            return _core.run_region(self._module, self._flags, None, self._original, args, kwargs)
        if self._applied.observer is not None:
            return self._observed(self._applied.observer, args, kwargs)
        return self._run(args, kwargs)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], extras: Any = None) -> Any:
        if self._scope:
            with _core.make_scope():
                return self._original(*args, **kwargs)
        flags = self._flags
        if self._module.recomputes:
            if self._is_layer:
                _drop_caches(kwargs)
            if extras is None and checkpointing._verify:
                extras = diagnose.Verify()
            if extras is not None:
                flags |= int(Flag.MEASURE)
            extras = with_guard(self._original, extras)
        return _core.run_region(self._module, flags, extras, self._function, args, kwargs)

    def _observed(self, observer: Observer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begins = self._module.recomputes and not observer.is_in_region()
        at = observer.enter(self._place, (args, kwargs), begins)
        result = None
        try:
            result = self._run(args, kwargs, observer if begins else None)
            return result
        finally:
            observer.leave(at, result)

    def _compiled(self, *args: Any, **kwargs: Any) -> Any:
        # A layer may be one of a chunk, whose outputs go: to the compiler each layer is a region of
        # its own.
        if self._module.recomputes and (self._is_layer or not self._module.discards):
            return torch_checkpoint(self._original, *args, use_reentrant=False, **kwargs)
        return self._original(*args, **kwargs)


def _drop_caches(kwargs: dict[str, Any]) -> None:
    """A key-value cache that a layer fills would be filled again by its replay."""
    for name in _CACHES:
        if kwargs.get(name) is not None:
            warnings.warn(
                f"rcore.torch: '{name}' is not passed to a layer that is recomputed; set "
                "use_cache=False to silence this", stacklevel=4)
            kwargs[name] = None


class _AttentionFunction:
    """Stands in for an attention function of transformers: modules that a policy names run it as a
    region.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original, updated=())
        self._original = original
        # Weak, as a region knows the module and its model.
        self.regions: weakref.WeakKeyDictionary[nn.Module, weakref.ref[_Region]]
        self.regions = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple:
        return getattr, (sys.modules[self._original.__module__], self._original.__name__)

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        known = self.regions.get(module)
        region = known() if known is not None else None
        if region is None:
            return self._original(module, *args, **kwargs)
        return region(module, *args, **kwargs)


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
        self._regions: list[_Region] = []
        self.observer: Observer | None = None
        self.budget: Budgeted | None = None
        self._undo: list[Callable[[], None]] = []
        self.adopt(policy if policy.limit is None else Budgeted.warm_up(self.kinds()))
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

    def module_of(self, place: Place) -> "_core.Module":
        """The core's module of a place."""
        if id(place) not in self._registered:
            self._registered[id(place)] = self._register(place)
        return self._registered[id(place)]

    def _register(self, place: Place) -> "_core.Module":
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
        model = self._model()
        if self.policy.limit is not None and model is not None:
            self.budget = Budgeted(self, model, self.policy.limit)
            self._undo.append(self.budget.close)
            self._put(model, "forward", self.budget)

    def _install_method(self, place: Place) -> None:
        region = _Region(self, place, getattr(place.module, place.method))
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
        for function in _attention_functions(place.module):
            region = _Region(self, place, function._original)
            self._regions.append(region)
            function.regions[place.module] = weakref.ref(region)
            self._undo.append(lambda f=function, m=place.module: _release_attention(f, m))

    def uninstall(self) -> None:
        """Takes the regions away."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, *error: Any) -> None:
        model = self._model()
        if model is not None and _applied.get(model) is self:
            remove(model)

    def stats(self) -> dict[str, int]:
        """The core's counters for this model."""
        return self.context.stats()


# The numbers of rcore.h.
_ROLE_OUTPUT = 3
_RECOMPUTE = 1
_BUILT_IN = frozenset(
    ("core_attn", "mlp", "moe", "shared_experts", "layer", "qkv_linear", "attn_proj", "expert_fc1",
     "fused_group_mlp", "layernorm", "moe_act", "mla_up_proj", "gdn_norm_out", "gdp_in_proj",
     "gdp_qkv", "mhc", "attn_norm", "mlp_norm"))

_attention_places: dict[tuple[str, str], tuple[_AttentionFunction, Callable[[], None]]] = {}


def _attention_functions(module: nn.Module) -> list[_AttentionFunction]:
    """Both functions that the module may call: its eager one, and the one its config names."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    functions = []
    source = sys.modules[type(module).__module__]
    eager = getattr(source, "eager_attention_forward", None)
    if eager is not None:
        functions.append(_stand_in((source.__name__, "eager"), eager,
                                   lambda f: setattr(source, "eager_attention_forward", f)))
    name = module.config._attn_implementation
    if name in ALL_ATTENTION_FUNCTIONS.valid_keys():
        functions.append(_stand_in(("transformers", name), ALL_ATTENTION_FUNCTIONS[name],
                                   lambda f: ALL_ATTENTION_FUNCTIONS.register(name, f)))
    return functions


def _stand_in(key: tuple[str, str], original: Callable[..., Any],
              put: Callable[[Any], None]) -> _AttentionFunction:
    if key not in _attention_places:
        function = _AttentionFunction(original)
        put(function)
        _attention_places[key] = (function, lambda: put(original))
    return _attention_places[key][0]


def _release_attention(function: _AttentionFunction, module: nn.Module) -> None:
    function.regions.pop(module, None)
    if function.regions:
        return
    for key, (stand_in, restore) in list(_attention_places.items()):
        if stand_in is function:
            restore()
            del _attention_places[key]


def apply(model: nn.Module, policy: Policy, mapping: KindMapping | None = None) -> Applied:
    """Applies a policy to a model; the model's names, attributes and state_dict stay as they are.

    Args:
        model: a model of Hugging Face, one of torch.nn's Transformer layers, or any that
            ``mapping`` explains.
        policy: what to keep, recompute and discard. Whatever was applied before is removed first.
        mapping: kinds of modules that are not recognised: a dict from path patterns to kinds, or a
            function ``(path, module) -> kind or None``.

    Returns:
        The applied policy; ``report`` and ``remove`` find it by the model too.

    Raises:
        rcore.Error: with the field of the policy that is wrong, its value and the limit.

    Warns:
        UnusedRuleWarning: where a rule names nothing that the model has.
    """
    remove(model)
    applied = Applied(model, policy, mapping)
    for rule in applied.dead_rules:
        warnings.warn(f"rcore.torch.apply: {rule} of the policy matched no module of the model",
                      UnusedRuleWarning, stacklevel=2)
    try:
        applied.install()
    except BaseException:
        applied.uninstall()
        raise
    _applied[model] = applied
    return applied


def applied_to(model: nn.Module) -> Applied | None:
    """What is applied to a model."""
    return _applied.get(model)


def remove(model: nn.Module) -> bool:
    """Takes a policy off a model again; False if there was none."""
    applied = _applied.pop(model, None)
    if applied is not None:
        applied.uninstall()
    return applied is not None


def enable_gradient_checkpointing(model: nn.Module, **options: Any) -> None:
    """Turns on a Hugging Face model's own gradient checkpointing, on regions of the core.

    Args:
        model: a ``transformers.PreTrainedModel``.
        **options: of ``rcore.torch.checkpoint``.
    """
    options.setdefault("use_reentrant", False)
    model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": options["use_reentrant"]})
    model._set_gradient_checkpointing(
        enable=True, gradient_checkpointing_func=functools.partial(checkpointing.checkpoint,
                                                                   **options))
