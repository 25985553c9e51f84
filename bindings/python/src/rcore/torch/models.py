# rcore/torch/models.py: finds the layers of a model and the submodules in them that a policy can
# speak about.
"""Which module of a model is of which kind.

Models are recognised by their structure, not by a list of classes: a layer is an element of a
    ModuleList that has an
attention and a feed-forward part under one of the names that transformers use. That covers the
decoders of Hugging Face (Llama, Mistral, Mixtral, Qwen, DeepSeek, GPT-2 and their like) and
torch.nn's Transformer layers.
"""
from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from rcore.torch.policy import Rule

__all__ = ["Found", "KindMapping", "Place", "find_places", "places_of_rules"]

ATTENTION = ("self_attn", "attn", "attention", "self_attention", "linear_attn")
FEED_FORWARD = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "ff")
SHARED = ("shared_experts", "shared_expert")
ACTIVATION = ("act_fn", "act", "activation_fn", "activation")
UP_PROJECTIONS = ("q_b_proj", "kv_b_proj")

#: path -> kind, or a function (path, module) -> kind or None, for what is not recognised.
KindMapping = Mapping[str, str] | Callable[[str, nn.Module], str | None]


@dataclasses.dataclass
class Place:
    """One module that a policy can speak about.

    Attributes:
        kind: as in a policy.
        layer: the index of its layer in the model.
        path: where it is, as in ``named_modules``.
        module: the module whose method is run as a region.
        method: that method; ``"attention"`` stands for the attention function that the module
            calls.
    """

    kind: str
    layer: int
    path: str
    module: nn.Module
    method: str = "forward"


@dataclasses.dataclass
class Found:
    """What was found in a model."""

    places: list[Place] = dataclasses.field(default_factory=list)
    layers: list[tuple[str, nn.Module]] = dataclasses.field(default_factory=list)
    moe_layers: list[int] = dataclasses.field(default_factory=list)
    latent_attention: bool = False

    def facts(self) -> dict[str, Any]:
        """What a policy has to know of the model, in its own words."""
        facts: dict[str, Any] = {}
        if self.layers:
            facts["num_layers"] = len(self.layers)
        if any(self.moe_layers):
            facts.update(moe_layers=self.moe_layers, moe_grouped_gemm=True)
        if self.latent_attention:
            facts["multi_latent_attention"] = True
        return facts


def _find(module: nn.Module, names: Iterable[str]) -> tuple[str, nn.Module] | None:
    for name in names:
        child = getattr(module, name, None)
        if isinstance(child, nn.Module):
            return name, child
    return None


def _child(module: nn.Module, names: Iterable[str]) -> tuple[str, nn.Module]:
    """The one that is there, by what made the module a layer."""
    found = _find(module, names)
    assert found is not None
    return found


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return True
    return _find(module, ATTENTION) is not None and _find(module, FEED_FORWARD) is not None


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and not list(module.children())


def _layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers in order; where there are several stacks, one after the other."""
    layers: list[tuple[str, nn.Module]] = []
    inside: list[str] = []
    for path, module in model.named_modules():
        if any(path.startswith(outer + ".") for outer in inside):
            continue
        if _is_layer(module):
            layers.append((path, module))
            inside.append(path)
    return layers


def _uses_attention_functions(module: nn.Module) -> bool:
    try:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: F401
    except ImportError:
        return False
    config = getattr(module, "config", None)
    return type(module).__module__.startswith("transformers.") and hasattr(
        config, "_attn_implementation")


def _places_of_torch_layer(index: int, path: str, layer: nn.Module) -> list[Place]:
    places = [
        Place("layer", index, path, layer),
        Place("mlp", index, f"{path}._ff_block", layer, "_ff_block")
    ]
    norms = [f"norm{i}" for i in (1, 2, 3) if hasattr(layer, f"norm{i}")]
    for name in norms:
        kind = "mlp_norm" if name == norms[-1] else "attn_norm"
        places.append(Place(kind, index, f"{path}.{name}", getattr(layer, name)))
    return places


def _places_of_layer(index: int, path: str, layer: nn.Module, found: Found) -> list[Place]:
    if isinstance(layer, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return _places_of_torch_layer(index, path, layer)
    places = [Place("layer", index, path, layer)]
    norms = [(n, m) for n, m in layer.named_children() if _is_norm(m)]
    for at, (name, norm) in enumerate(norms):
        kind = "attn_norm" if at < (len(norms) + 1) // 2 else "mlp_norm"
        places.append(Place(kind, index, f"{path}.{name}", norm))
    name, attention = _child(layer, ATTENTION)
    if _uses_attention_functions(attention):
        places.append(Place("core_attn", index, f"{path}.{name}", attention, "attention"))
    for up in UP_PROJECTIONS:
        if isinstance(getattr(attention, up, None), nn.Module):
            found.latent_attention = True
            places.append(Place("mla_up_proj", index, f"{path}.{name}.{up}", getattr(attention,
                                                                                     up)))
    name, feed = _child(layer, FEED_FORWARD)
    experts = getattr(feed, "experts", None)
    if not isinstance(experts, nn.Module):
        places.append(Place("mlp", index, f"{path}.{name}", feed))
        return places
    found.moe_layers[index] = 1
    places.append(Place("moe", index, f"{path}.{name}", feed))
    shared = _find(feed, SHARED)
    if shared is not None:
        places.append(Place("shared_experts", index, f"{path}.{name}.{shared[0]}", shared[1]))
    activation = _find(experts, ACTIVATION)
    if activation is not None:
        places.append(
            Place("moe_act", index, f"{path}.{name}.experts.{activation[0]}", activation[1]))
    return places


def _layer_of(path: str, layers: list[tuple[str, nn.Module]]) -> int:
    for index, (prefix, _) in enumerate(layers):
        if path == prefix or path.startswith(prefix + "."):
            return index
    return 0


def find_places(model: nn.Module, mapping: KindMapping | None = None) -> Found:
    """All places of a model, those of a user's mapping included."""
    found = Found(layers=_layers_of(model))
    found.moe_layers = [0] * len(found.layers)
    for index, (path, layer) in enumerate(found.layers):
        found.places += _places_of_layer(index, path, layer, found)
    if mapping is None:
        return found
    if isinstance(mapping, Mapping):
        table = dict(mapping)

        def mapping(path: str, module: nn.Module) -> str | None:
            return next(
                (kind for pattern, kind in table.items() if fnmatch.fnmatchcase(path, pattern)),
                None)

    if not found.layers:
        mapped = [(p, m) for p, m in model.named_modules() if mapping(p, m) == "layer"]
        found.layers, found.moe_layers = mapped, [0] * len(mapped)
    for path, module in model.named_modules():
        kind = mapping(path, module)
        if kind:
            found.places = [p for p in found.places if p.path != path]
            found.places.append(Place(kind, _layer_of(path, found.layers), path, module))
    return found


def places_of_rules(
        model: nn.Module, found: Found,
        rules: Iterable[Rule]) -> tuple[list[Place], list[dict], list[dict], list[Rule]]:
    """Places, kinds and rules of a policy's paths, and those of its rules that matched nothing."""
    places: list[Place] = []
    kinds: list[dict] = []
    lines: list[dict] = []
    dead: list[Rule] = []
    named: dict[str, Place] = {}
    for number, rule in enumerate(rules):
        matched = []
        for path, module in model.named_modules():
            layer = _layer_of(path, found.layers)
            in_range = rule.layers is None or rule.layers[0] <= layer < rule.layers[1]
            if path and in_range and fnmatch.fnmatchcase(path, rule.path):
                matched.append(Place(f"path_{number}", layer, path, module))
        if not matched:
            dead.append(rule)
            continue
        for place in matched:  # the last rule that names a module decides
            named[place.path] = place
        kinds.append({"name": f"path_{number}", "discards_output": rule.action == "discard"})
        lines.append(
            {"kind": f"path_{number}", "action": "keep" if rule.action == "keep" else "recompute"})
    places = list(named.values())
    return places, kinds, lines, dead
