# rcore/plan/megatron.py: Megatron's settings from an argument list or YAML, and what they say
# about a model.
"""Reads `--tensor-model-parallel-size 4`, `tensor_model_parallel_size: 4` and their nested YAML
forms."""

from __future__ import annotations

import ast
import pathlib
import re
import shlex
from typing import Any

import yaml

from rcore.plan.errors import InputError
from rcore.plan.pipeline_layout import layers_per_stage

__all__ = ["Settings", "read_settings"]

_ALIASES = {
    "fp8_format": "fp8",
    "decoder_first_pipeline_num_layers": "num_layers_in_first_pipeline_stage",
    "decoder_last_pipeline_num_layers": "num_layers_in_last_pipeline_stage",
    "num_virtual_stages_per_pipeline_rank": "virtual_pipeline_model_parallel_size",
    "num_moe_experts": "num_experts",
    "pipeline_size": "pipeline_model_parallel_size",
    "tensor_size": "tensor_model_parallel_size",
    "encoder_seq_length": "seq_length",
    "encoder_num_layers": "num_layers",
    "gated_linear_unit": "swiglu",
    "virtual_pipeline_size": "virtual_pipeline_model_parallel_size",
    "num_experts_per_tok": "moe_router_topk",
    "cuda_graph_modules": "cuda_graph_scope",
    "padded_vocab_size": "vocab_size",
}
_LISTS = ("recompute_modules", "offload_modules", "cuda_graph_scope")
# Members of the policy's JSON form that a Megatron run sets by the same name.
_POLICY_KEYS = (
    "recompute_granularity recompute_method recompute_num_layers recompute_modules "
    "recompute_activations "
    "moe_layer_recompute checkpoint_activations distribute_saved_activations "
    "num_microbatches_with_partial_activation_checkpoints mtp_num_layers mhc_recompute_layer_num "
    "enable_hyper_connections "
    "multi_latent_attention experimental_attention_variant moe_grouped_gemm "
    "moe_shared_expert_overlap "
    "moe_token_dispatcher_type moe_latent_size moe_paged_stash moe_input_jitter_eps "
    "overlap_moe_expert_parallel_comm "
    "attention_dropout hidden_dropout cpu_offloading cpu_offloading_num_layers "
    "fine_grained_activation_offloading "
    "offload_modules min_offloaded_tensor_size activation_offload_fraction "
    "use_transformer_engine_op_fuser fp8 fp8_recipe "
    "cuda_graph_impl cuda_graph_scope activations_checkpoint_granularity "
    "activations_checkpoint_method "
    "activations_checkpoint_num_layers"
).split()


def _scalar(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    stripped = text.strip()
    if stripped.lower() in ("true", "false"):
        return stripped.lower() == "true"
    if stripped.lower() in ("null", "none", "~", ""):
        return None
    for kind in (int, float):
        try:
            return kind(stripped)
        except ValueError:
            pass
    return stripped


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return [n for n in re.split(r"[\s,]+", value.strip().strip("[]\"'")) if n]
    if value is None or value is True:
        return []
    return [
        name
        for item in (value if isinstance(value, list) else [value])
        for name in _names(str(item))
    ]


def _list_expression(text: str) -> list[int] | None:
    """``([0]*3+[1]*58)`` as a list; nothing but lists, products and sums is evaluated."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.List):
            return [value(e) for e in node.elts]
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Add):
                return left + right
            count = left if isinstance(left, int) else right
            if isinstance(count, int) and count <= 1 << 16:
                return left * right
        raise ValueError(text)

    try:
        found = value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError):
        return None
    return found if isinstance(found, list) else None


class Settings:
    """Megatron's settings by their canonical names: no dashes, one spelling each."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.source = source
        self.remarks: list[str] = []  # what was assumed or left out
        self._values: dict[str, Any] = {}
        for key, value in values.items():
            name = key.lstrip("-").replace("-", "_")
            self._values[_ALIASES.get(name, name)] = (
                _names(value) if _ALIASES.get(name, name) in _LISTS else value
            )

    def get(self, key: str, default: Any = None) -> Any:
        """The setting, or ``default`` where it is absent or null."""
        value = self._values.get(key)
        return default if value is None else value

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def set(self, key: str, value: Any) -> None:
        """Gives a setting by its canonical name."""
        self._values[key] = value

    def count(self, key: str, default: int = 0) -> int:
        """The setting as a whole number; InputError where it is none."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
            raise InputError(f"{self.source}: {key} is {value!r}, must be a whole number")
        return int(value)

    @property
    def names_a_model(self) -> bool:
        """True where the settings say enough to know the architecture."""
        return all(k in self for k in ("num_layers", "hidden_size", "num_attention_heads"))

    def _moe_layers(self, layers: int) -> list[int]:
        freq = self.get("moe_layer_freq", 1)
        if isinstance(freq, str):
            freq = _list_expression(freq)
        if isinstance(freq, list):
            if len(freq) != layers:
                raise InputError(
                    f"{self.source}: moe_layer_freq has {len(freq)} entries, num_layers is {layers}"
                )
            return [int(bool(f)) for f in freq]
        if not isinstance(freq, int) or freq < 1:
            raise InputError(
                f"{self.source}: moe_layer_freq {self.get('moe_layer_freq')!r} is no list and no "
                "count"
            )
        return [int(i % freq == 0) for i in range(layers)]

    @property
    def fused_attention(self) -> bool:
        """True where the scores of attention are never written: Transformer Engine's default, or
        flash attention."""
        backend = str(self.get("attention_backend", "auto"))
        if backend in ("unfused", "local"):
            return False
        return str(self.get("transformer_impl", "transformer_engine")) != "local" or bool(
            self.get("use_flash_attn")
        )

    @property
    def fused_norm(self) -> bool:
        """True where norms run inside the linear behind them, as in Transformer Engine's dense
        layers."""
        return str(self.get("transformer_impl", "transformer_engine")) != "local"

    def model(self) -> dict[str, Any]:
        """The member ``model`` of a request."""
        hidden, heads = self.count("hidden_size"), self.count("num_attention_heads")
        layers = self.count("num_layers")
        gated = bool(self.get("swiglu"))
        ffn = self.count("ffn_hidden_size") or (
            int(4 * hidden * 2 / 3 / 64) * 64 if gated else 4 * hidden
        )
        model: dict[str, Any] = {
            "name": pathlib.Path(self.source).stem if self.source != "arguments" else "arguments",
            "num_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "ffn_hidden_size": ffn,
            "swiglu": gated,
            "fused_attention": self.fused_attention,
            "normalization": str(self.get("normalization", "LayerNorm")),
            "rotary": self.get("position_embedding_type") == "rope"
            or bool(self.get("use_rotary_position_embeddings")),
            "attention_dropout": float(self.get("attention_dropout", 0.1)),
            "hidden_dropout": float(self.get("hidden_dropout", 0.1)),
            "tied_embeddings": not self.get("untie_embeddings_and_output_weights", False),
            "vocab_size": self.count("vocab_size"),
        }
        if "kv_channels" in self and not self.get("multi_latent_attention"):
            model["kv_channels"] = self.count("kv_channels")
        if self.get("group_query_attention") or "num_query_groups" in self:
            model["num_query_groups"] = self.count("num_query_groups", 1)
        if self.get("multi_latent_attention"):
            model["multi_latent_attention"] = True
            for key, default in (("q_lora_rank", 0), ("kv_lora_rank", 512), ("qk_head_dim", 128),
                                 ("qk_pos_emb_head_dim", 64), ("v_head_dim", 128)):
                model[key] = self.count(key, default)
        if self.count("num_experts"):
            model.update(
                num_experts=self.count("num_experts"),
                moe_router_topk=self.count("moe_router_topk", 2),
                moe_ffn_hidden_size=self.count("moe_ffn_hidden_size") or ffn,
                moe_shared_expert_intermediate_size=self.count(
                    "moe_shared_expert_intermediate_size"
                ),
                moe_layer_freq=self._moe_layers(layers),
            )
        return model

    def layout(self) -> dict[str, Any]:
        """The member ``layout`` of a request."""
        tp, pp = (
            self.count("tensor_model_parallel_size", 1),
            self.count("pipeline_model_parallel_size", 1),
        )
        layout: dict[str, Any] = {
            "tensor_model_parallel_size": tp,
            "pipeline_model_parallel_size": pp,
        }
        for key in (
            "context_parallel_size",
            "expert_model_parallel_size",
            "expert_tensor_parallel_size",
            "seq_length",
            "micro_batch_size",
            "data_parallel_size",
        ):
            if key in self:
                layout[key] = self.count(key)
        if self.get("sequence_parallel") and tp > 1:
            layout["sequence_parallel"] = True
        if "pipeline_model_parallel_layout" in self:
            stages = layers_per_stage(str(self.get("pipeline_model_parallel_layout")))
            if len(stages) % pp:
                raise InputError(
                    f"{self.source}: pipeline_model_parallel_layout has {len(stages)} stages, "
                    f"pipeline_model_parallel_size is {pp}"
                )
            layout["virtual_pipeline_model_parallel_size"] = len(stages) // pp
            layout["layers_per_virtual_stage"] = stages
            return layout | self._fp8()
        for key in ("num_layers_in_first_pipeline_stage", "num_layers_in_last_pipeline_stage"):
            if key in self:
                layout[key] = self.count(key)
        if self.get("account_for_embedding_in_pipeline_split") or self.get(
            "account_for_loss_in_pipeline_split"
        ):
            return layout | self._accounted(pp) | self._fp8()
        if "virtual_pipeline_model_parallel_size" in self:
            layout["virtual_pipeline_model_parallel_size"] = self.count(
                "virtual_pipeline_model_parallel_size"
            )
        elif self.count("num_layers_per_virtual_pipeline_stage") and pp > 1:
            each = self.count("num_layers_per_virtual_pipeline_stage")
            layout["virtual_pipeline_model_parallel_size"] = max(
                1, self.count("num_layers") // pp // each
            )
        return layout | self._fp8()

    def _accounted(self, pp: int) -> dict[str, Any]:
        """The embedding and the loss count as a layer each where the split says so."""
        first = int(bool(self.get("account_for_embedding_in_pipeline_split")))
        last = int(bool(self.get("account_for_loss_in_pipeline_split")))
        layers = self.count("num_layers") + first + last
        each = self.count("num_layers_per_virtual_pipeline_stage")
        vpp = self.count("virtual_pipeline_model_parallel_size") or (
            max(1, layers // pp // each) if each else 1
        )
        if layers % (pp * vpp):
            raise InputError(
                f"{self.source}: {layers} layers with embedding and loss do not spread over "
                f"{pp * vpp} stages"
            )
        stages = [layers // (pp * vpp)] * (pp * vpp)
        stages[0] -= first
        stages[-1] -= last
        return {"virtual_pipeline_model_parallel_size": vpp, "layers_per_virtual_stage": stages}

    def _fp8(self) -> dict[str, str]:
        if self.get("fp8") in (None, False):
            return {}
        recipe = str(self.get("fp8_recipe", "delayed"))
        return {
            "fp8": recipe
            if recipe in ("delayed", "tensorwise", "blockwise", "mxfp8")
            else "delayed"
        }

    def policy(self) -> dict[str, Any]:
        """The settings as ``rc_policy_create_json`` reads them."""
        policy: dict[str, Any] = {"rcore_policy": 1}
        for key in _POLICY_KEYS:
            if key in self and self.get(key) is not False and self.get(key) != "none":
                policy[key] = self.get(key)
        if not self.get("fp8"):
            policy.pop("fp8_recipe", None)
        elif str(self.get("fp8_recipe", "delayed")) not in (
            "delayed",
            "tensorwise",
            "blockwise",
            "mxfp8",
        ):
            self.remarks.append(
                f"fp8_recipe {self.get('fp8_recipe')} is not modelled; read as tensorwise"
            )
            policy["fp8_recipe"] = "tensorwise"
        for key, value in self.layout().items():
            if key not in (
                "seq_length",
                "micro_batch_size",
                "data_parallel_size",
                "expert_tensor_parallel_size",
                "fp8",
            ):
                policy[key] = value
        if "num_layers" in self:
            policy["num_layers"] = self.count("num_layers")
            if self.count("num_experts"):
                policy["moe_layer_freq"] = self._moe_layers(policy["num_layers"])
        if "num_layers" not in self and policy["pipeline_model_parallel_size"] > 1:
            self.remarks.append(
                "num_layers is not set: rules about pipeline stages are not checked"
            )
            for key in [k for k in policy if "pipeline" in k or k == "layers_per_virtual_stage"]:
                del policy[key]
        known = {"attn", "mlp", "moe", "moe_router", "moe_preprocess", "full", "full_iteration"}
        for scope in [s for s in policy.get("cuda_graph_scope", []) if s not in known]:
            policy["cuda_graph_scope"] = [s for s in policy["cuda_graph_scope"] if s != scope]
            self.remarks.append(f"cuda_graph_scope {scope} is not modelled; left out")
        variant = policy.get("experimental_attention_variant")
        if variant is not None and variant not in ("gdn", "gdn2", "gated_delta_net", "gdp"):
            policy.pop("experimental_attention_variant")
            self.remarks.append(
                f"experimental_attention_variant {variant} is not modelled; left out"
            )
        if self.get("enable_cuda_graph"):
            policy.setdefault("cuda_graph_impl", "local")
        if self.get("external_cuda_graph"):
            policy.setdefault("cuda_graph_impl", "transformer_engine")
        if policy.get("cuda_graph_scope") == ["full"] or policy.get("cuda_graph_scope") == []:
            policy.pop("cuda_graph_scope")
        if policy.get("cuda_graph_scope") == ["full_iteration"]:
            policy.pop("cuda_graph_scope")
            policy["cuda_graph_impl"] = "full_iteration"
        if policy.get("cuda_graph_impl") is None:
            policy.pop("cuda_graph_scope", None)
        policy["fused_attention"] = self.fused_attention
        # Layers with experts or latent attention have norms of their own.
        policy["fused_norm"] = (
            self.fused_norm
            and not self.count("num_experts")
            and not self.get("multi_latent_attention")
        )
        return policy


def _flatten(tree: dict[Any, Any], into: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, dict):
            _flatten(value, into)
        else:
            into[str(key)] = _scalar(value)


_ASSIGNED = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=([^\s(#;]+)\s*(?:#.*)?$", re.M)
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::?[-=]([^{}]*))?\}|\$([A-Za-z_]\w*)")


def _expand(text: str, variables: dict[str, str]) -> str:
    """A script's own plain assignments and the defaults of ``${NAME:-default}``; what is left
    stays as it is."""

    def value(found: re.Match[str]) -> str:
        default = found.group(0) if found.group(2) is None else found.group(2)
        return variables.get(found.group(1) or found.group(3), default)

    for _ in range(4):
        text = _VARIABLE.sub(value, text)
    return text


def _from_arguments(text: str) -> dict[str, Any]:
    joined = text.replace("\\\n", " ")
    variables: dict[str, str] = {}
    for name, value in _ASSIGNED.findall(joined):
        variables[name] = _expand(value.strip("\"'"), variables)
    lexer = shlex.shlex(_expand(joined, variables), posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, "#"
    values: dict[str, Any] = {}
    key = None
    for token in lexer:
        if (
            (re.match(r"[A-Za-z_]\w*\+?=", token)
            and "--" not in token)
            or token in (")", ");", ";", "&&", "|", "fi", "done")
        ):
            key = None  # the next command or array of the script
            continue
        token = re.sub(r"^[A-Za-z_]\w*\+?=\(?(?=--)", "", token)
        token = token[:-1] if token.endswith(")") and "(" not in token else token
        if not token:
            continue
        if token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            values[key] = _scalar(value) if equals else True
        elif key is not None:
            old, new = values[key], _scalar(token)
            values[key] = new if old is True else (old if isinstance(old, list) else [old]) + [new]
    return values


def read_settings(text: str, source: str) -> Settings:
    """From the text of a YAML file, a shell script or an argument list."""
    looks_like_yaml = source.endswith((".yaml", ".yml")) or re.search(
        r"^\s*(MODEL_ARGS|[A-Za-z_]+)\s*:", text, re.M
    )
    if looks_like_yaml and not text.lstrip().startswith("--"):
        try:
            tree = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{source}: " + " ".join(str(error).split())) from None
        if not isinstance(tree, dict):
            raise InputError(f"{source}: no mapping of settings")
        values: dict[str, Any] = {}
        inner = tree.get("MODEL_ARGS")
        _flatten(inner if isinstance(inner, dict) else tree, values)
    else:
        try:
            values = _from_arguments(text)
        except ValueError as error:
            raise InputError(f"{source}: {error}") from None
    if not values:
        raise InputError(f"{source}: no settings found")
    return Settings(values, source)
