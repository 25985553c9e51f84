# tests/models.py: small models of each family, built from their configs with random weights.
from __future__ import annotations

import torch
from torch import nn

COMMON = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
              num_attention_heads=4, num_key_value_heads=2, use_cache=False)


def llama(**more):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**{**COMMON, "attention_dropout": 0.1, **more}))


def gpt2(**more):
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_layer=4, n_head=4, use_cache=False, bos_token_id=0,
                   eos_token_id=0, **more))


def mistral():
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**COMMON, attn_implementation="eager"))


def mixtral():
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(
        MixtralConfig(**COMMON, num_local_experts=4, output_router_logits=True))


def qwen():
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(**COMMON, num_experts=4, moe_intermediate_size=32, num_experts_per_tok=2,
                       head_dim=8, output_router_logits=True))


def deepseek():
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    sizes = {**COMMON, "num_key_value_heads": 4}
    return DeepseekV3ForCausalLM(
        DeepseekV3Config(**sizes, moe_intermediate_size=16, n_routed_experts=4, n_group=1,
                         topk_group=1, num_experts_per_tok=2, first_k_dense_replace=1,
                         kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8,
                         v_head_dim=8))


FAMILIES = {
    "llama": llama, "gpt2": gpt2, "mistral": mistral, "mixtral": mixtral, "qwen": qwen,
    "deepseek": deepseek
}


class TorchEncoder(nn.Module):
    """torch.nn's own layers behind a loss."""

    def __init__(self, norm_first: bool = False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True,
                                           norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, x):
        return self.encoder(x).square().mean()


def step_of(model, loss_of):
    """Loss and all gradients of one step from a fixed seed."""
    model.zero_grad()
    torch.manual_seed(1)
    loss = loss_of()
    loss.backward()
    return [loss.detach()] + [p.grad.clone() for p in model.parameters() if p.grad is not None]


def step(model, ids):
    """Of a model of transformers."""
    return step_of(model, lambda: model(input_ids=ids, labels=ids).loss)


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))
