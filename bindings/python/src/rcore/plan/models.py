# rcore/plan/models.py: a model by name, from a Hugging Face config.json, or from Megatron's
# settings.
"""What the command line takes as MODEL."""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

from rcore.plan.errors import InputError
from rcore.plan.megatron import Settings, read_settings

__all__ = ["Subject", "find_model", "from_hugging_face", "read_file"]

_UNGATED = {
    "gpt2",
    "gpt_neox",
    "opt",
    "bloom",
    "falcon",
    "phi",
    "starcoder2",
    "gptj",
    "mpt",
    "gpt_bigcode",
    "nemotron",
}


@dataclasses.dataclass
class Subject:
    """A model, and what the same file says about its layout and policy."""

    model: str | dict[str, Any]
    settings: Settings | None = None

    @property
    def layout(self) -> dict[str, Any]:
        """The member ``layout`` of a request, as far as the file says."""
        return self.settings.layout() if self.settings else {}


def _first(config: dict[str, Any], *keys: str) -> Any:
    for key in keys:
        if config.get(key) is not None:
            return config[key]
    return None


def from_hugging_face(config: dict[str, Any], source: str) -> dict[str, Any]:
    """The member ``model`` of a request from a ``config.json``."""
    if isinstance(config.get("text_config"), dict):
        config = config["text_config"]
    kind = str(config.get("model_type", ""))
    hidden = _first(config, "hidden_size", "n_embd", "d_model")
    layers = _first(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = _first(config, "num_attention_heads", "n_head", "n_heads")
    for name, value in (
        ("hidden_size", hidden),
        ("num_hidden_layers", layers),
        ("num_attention_heads", heads),
    ):
        if not isinstance(value, int) or value < 1:
            wrong = "is missing" if value is None else f"is {value!r}"
            raise InputError(
                f"{source}: {name} {wrong}; a transformer's config.json has it as a positive number"
            )
    ffn = _first(config, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") or 4 * hidden
    model: dict[str, Any] = {
        "name": str(config.get("_name_or_path") or kind or "model"),
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "ffn_hidden_size": ffn,
        "swiglu": kind not in _UNGATED,
        "vocab_size": config.get("vocab_size") or 0,
        "normalization": "RMSNorm" if "rms_norm_eps" in config else "LayerNorm",
        "rotary": kind not in ("gpt2", "opt", "bloom"),
        "attention_dropout": float(_first(config, "attention_dropout", "attn_pdrop") or 0),
        "hidden_dropout": float(_first(config, "resid_pdrop", "hidden_dropout") or 0),
        "tied_embeddings": bool(config.get("tie_word_embeddings", kind == "gpt2")),
    }
    if config.get("kv_lora_rank"):
        model |= {
            "multi_latent_attention": True,
            "q_lora_rank": config.get("q_lora_rank") or 0,
            "kv_lora_rank": config["kv_lora_rank"],
            "qk_head_dim": config.get("qk_nope_head_dim", 128),
            "qk_pos_emb_head_dim": config.get("qk_rope_head_dim", 64),
            "v_head_dim": config.get("v_head_dim", 128),
        }
    else:
        model["num_query_groups"] = _first(config, "num_key_value_heads", "num_kv_heads") or heads
        if config.get("head_dim"):
            model["kv_channels"] = config["head_dim"]
    return model | _experts(config, layers, ffn)


def _experts(config: dict[str, Any], layers: int, ffn: int) -> dict[str, Any]:
    experts = _first(config, "n_routed_experts", "num_local_experts", "num_experts")
    if not experts:
        return {}
    width = config.get("moe_intermediate_size") or ffn
    shared = (
        config.get("shared_expert_intermediate_size")
        or (config.get("n_shared_experts") or 0) * width
    )
    dense = config.get("first_k_dense_replace") or 0
    every = _first(config, "moe_layer_freq", "decoder_sparse_step") or 1
    every = every if isinstance(every, int) else 1
    only_dense = set(config.get("mlp_only_layers") or [])
    sparse = [
        int(i >= dense and i not in only_dense and (i + (every > 1)) % every == 0)
        for i in range(layers)
    ]
    return {
        "num_experts": experts,
        "moe_router_topk": _first(config, "num_experts_per_tok", "moe_topk") or 1,
        "moe_ffn_hidden_size": width,
        "moe_shared_expert_intermediate_size": shared,
        "moe_layer_freq": sparse,
    }


def read_file(name: str) -> str:
    """The text of a file."""
    try:
        return pathlib.Path(name).read_text()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: is no text") from None


def _from_settings(text: str, source: str) -> Subject:
    settings = read_settings(text, source)
    if not settings.names_a_model:
        raise InputError(
            f"{source}: no num_layers, hidden_size and num_attention_heads: these settings name "
            "no model"
        )
    return Subject(settings.model(), settings)


def find_model(name: str) -> Subject:
    """A file in any of the forms, flags, else a built-in name (the library knows which there
    are).
    """
    if name.lstrip().startswith("--"):
        return _from_settings(name, "arguments")
    path = pathlib.Path(name)
    if os.path.isfile(path / "config.json"):
        path = path / "config.json"
    elif os.path.isdir(path):
        raise InputError(f"{name}: a folder without a config.json")
    if not os.path.isfile(path):
        if path.suffix in (".json", ".yaml", ".yml", ".sh", ".txt") or "/" in name:
            raise InputError(f"{name}: no such file")
        return Subject(name)
    text = read_file(str(path))
    if path.suffix == ".json":
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: line {error.lineno}, column {error.colno}: {error.msg}"
            ) from None
        if not isinstance(config, dict):
            raise InputError(f"{path}: no JSON object")
        megatron_names = (
            "num_layers" in config
            and "model_type" not in config
            and "num_hidden_layers" not in config
        )
        return Subject(
            config if megatron_names or "base" in config else from_hugging_face(config, str(path))
        )
    return _from_settings(text, str(path))
