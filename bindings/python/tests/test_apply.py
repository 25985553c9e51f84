# tests/test_apply.py: policies on real models: the same bits, the same names, and what each frees.
from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
from torch import nn

import rcore.torch as rt
from rcore.torch import Policy, Rule

pytest.importorskip("transformers")
from models import FAMILIES, TorchEncoder, gpt2, llama, mixtral, same, step, step_of

POLICIES = {
    "none": Policy.none(),
    "core_attn": Policy.selective("core_attn"),
    "layernorm": Policy.selective("layernorm"),
    "attention and norms": Policy.selective("core_attn", "layernorm"),
    "uniform 1": Policy.full("uniform", 1),
    "uniform 3": Policy.full("uniform", 3),
    "block 2": Policy.full("block", 2),
}
EXTRA = {
    "llama": {"mlp": Policy.selective("mlp", "core_attn", "layernorm")},
    "gpt2": {"mlp": Policy.selective("mlp", "layernorm")},
    "mistral": {"mlp": Policy.selective("mlp")},
    "mixtral": {
        "moe": Policy.selective("moe", "core_attn"),
        "moe_act": Policy.selective("moe_act", "layernorm")
    },
    "qwen": {"moe": Policy.selective("moe"), "moe_act": Policy.selective("moe_act")},
    "deepseek": {
        "moe": Policy.selective("moe", "mlp"), "mla_up_proj": Policy.selective(
            "mla_up_proj", "layernorm"), "shared_experts": Policy.selective("shared_experts")
    },
}


def counters(applied):
    total: dict[str, dict[str, int]] = {}
    for place, module in applied.modules:
        into = total.setdefault(place.kind, {})
        for key, value in module.counters().items():
            into[key] = into.get(key, 0) + value
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_every_policy_gives_the_bits_of_none_and_frees(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().train()
    ids = torch.randint(0, 64, (2, 12))
    want = step(model, ids)
    names, modules = list(model.state_dict()), [n for n, _ in model.named_modules()]
    for name, policy in {**POLICIES, **EXTRA[family]}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            applied = rt.apply(model, policy)
        assert same(want, step(model, ids)), name
        assert list(model.state_dict()) == names and [n for n, _ in model.named_modules()
                                                     ] == modules
        total = counters(applied)
        if name != "none":
            used = [c for c in total.values() if c["regions"]]
            assert used and all(c["freed_bytes"] > 0 for c in used), name
            assert applied.stats()["regions_begun"] >= sum(c["regions"] for c in used)
        assert all(c["replays"] == c["regions"] for c in total.values()), name
        assert applied.stats()["regions_live"] == 0
        assert rt.remove(model)
    assert same(want, step(model, ids))
    assert not any("forward" in m.__dict__ for m in model.modules())


@pytest.mark.parametrize("norm_first", [False, True])
def test_torchs_own_layers(norm_first):
    model = TorchEncoder(norm_first).train()
    x = torch.randn(2, 5, 16)

    def run():
        return step_of(model, lambda: model(x))

    want = run()
    for policy in (Policy.full(), Policy.full("uniform", 2), Policy.selective("mlp"),
                   Policy.selective("layernorm")):
        with rt.apply(model, policy) as applied:
            assert same(want, run())
            assert sum(c["freed_bytes"] for c in counters(applied).values()) > 0
    assert same(want, run())
    with pytest.warns(rt.UnusedRuleWarning, match="kind 'core_attn'"):
        rt.apply(model, Policy.selective("core_attn"))
    rt.remove(model)


def test_a_chunk_keeps_one_input_and_replays_each_layer_once():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    inputs = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda m, a: inputs.append(a[0].untyped_storage()._weak_ref()))
        for layer in model.model.layers
    ]

    def kept():
        inputs.clear()
        loss = model(input_ids=ids, labels=ids).loss
        alive = [not torch.UntypedStorage._expired(i) for i in inputs]
        del loss
        return alive

    with rt.apply(model, Policy.full("uniform", 1)):
        assert kept() == [True] * 4
    with rt.apply(model, Policy.full("uniform", 2)):
        assert kept() == [True, False, True, False]
    with rt.apply(model, Policy.full("uniform", 4)) as applied:
        assert kept() == [True, False, False, False]
        want = step(model, ids)
        assert sum(module.counters()["replays"] for _, module in applied.modules) == 4
    for hook in hooks:
        hook.remove()
    assert same(want, step(model, ids))


def test_a_discarded_norm_output_is_freed_between_forward_and_backward():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    outputs = []
    for layer in model.model.layers:
        layer.input_layernorm.register_forward_hook(
            lambda m, a, out: outputs.append(out.untyped_storage()._weak_ref()))

    def alive():
        outputs.clear()
        loss = model(input_ids=ids, labels=ids).loss
        result = [not torch.UntypedStorage._expired(o) for o in outputs]
        del loss
        return result

    assert alive() == [True] * 4
    with rt.apply(model, Policy.selective("layernorm")):
        assert alive() == [False] * 4


def test_policies_nest_without_a_second_replay():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    want = step(model, ids)
    policy = Policy(rules=[{"kind": k, "action": "recompute"}
                           for k in ("layer", "mlp", "core_attn", "layernorm")])
    with rt.apply(model, policy) as applied:
        assert same(want, step(model, ids))
        total = counters(applied)
    assert total["layer"]["replays"] == 4
    assert total["mlp"]["regions"] == total["core_attn"]["regions"] == 0 and total["mlp"][
        "nested"] > 0


def test_the_three_spellings_of_one_policy():
    model = gpt2().train()
    spellings = [
        Policy.full("uniform", 2),
        Policy.from_args(
            "--recompute-granularity full --recompute-method uniform --recompute-num-layers 2"),
        Policy.from_json(
            '{"rcore_policy": 1, "recompute_granularity": "full", "recompute_method": "uniform", '
            '"recompute_num_layers": 2}'),
    ]
    tables = set()
    for policy in spellings:
        with rt.apply(model, policy) as applied:
            tables.add(applied.table.describe())
    assert len(tables) == 1
    settings = Policy.from_args(
        "--recompute-activations --recompute-modules core_attn mlp").settings
    assert settings["recompute_modules"] == ["core_attn", "mlp"]


def test_rules_by_path_and_layer_range():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    want = step(model, ids)
    policy = Policy(paths=[
        Rule("*.mlp", layers=(1, 3)),
        Rule("*_layernorm", "discard"),
        Rule("*.layers.2.mlp", "keep")
    ])
    with rt.apply(model, policy) as applied:
        assert same(want, step(model, ids))
        ran = {
            place.path: module.counters()["regions"]
            for place, module in applied.modules
            if module.counters()["regions"]
        }
    norms = {
        f"model.layers.{i}.{n}_layernorm" for i in range(4) for n in ("input", "post_attention")
    }
    assert set(ran) == {"model.layers.1.mlp"} | norms


def test_rules_that_match_nothing_warn_and_wrong_ones_are_errors():
    model = llama()
    with pytest.warns(rt.UnusedRuleWarning, match=r"path 'nothing\.\*'"):
        rt.apply(model, Policy(paths=[Rule("nothing.*")]))
    with pytest.warns(rt.UnusedRuleWarning, match="kind 'moe'"):
        rt.apply(model, Policy.selective("moe"))
    rt.remove(model)
    with pytest.raises(rt.Error, match=r"layernrom.*layernorm") as caught:
        rt.apply(model, Policy.selective("layernrom"))
    assert caught.value.status == "RC_E_ARGUMENT" and caught.value.field == "/recompute_modules/0"
    with pytest.raises(rt.Error, match=r"more|limit|4"):
        rt.apply(model, Policy.full("block", 5))
    with pytest.raises(rt.Error, match=r"rule\.action"):
        Rule("*", "forget")
    assert rt.applied_to(model) is None


def test_a_users_mapping_for_what_is_not_recognised():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.glu = nn.Linear(8, 16), nn.Sequential(nn.GELU(), nn.Linear(16, 8))

        def forward(self, x):
            return x + self.glu(self.first(x))

    model = nn.Sequential(Block(), Block(), Block())
    x = torch.randn(4, 8)

    def run():
        model.zero_grad()
        model(x).sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    want = run()
    mapping = {"?": "layer", "*.glu": "glu"}
    for policy in (Policy.full("uniform", 2),
                   Policy(rules=[{"kind": "glu", "action": "recompute", "first_layer": 1}])):
        with rt.apply(model, policy, mapping) as applied:
            assert same(want, run())
            total = counters(applied)
    assert total["glu"]["regions"] == 2
    with rt.apply(model, Policy.full(), lambda path, module: "layer"
                  if isinstance(module, Block) else None) as applied:
        assert same(want, run()) and counters(applied)["layer"]["regions"] == 3


def test_saving_and_copying_a_model_leave_the_policy_behind():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    want = step(model, ids)
    with rt.apply(model, Policy.selective("core_attn", "layernorm", "mlp")):
        buffer = io.BytesIO()
        torch.save(model, buffer)
        copied = copy.deepcopy(model)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (loaded, copied):
        assert list(other.state_dict()) == list(model.state_dict())
        assert same(want, step(other, ids))
        assert rt.applied_to(other) is None
    assert copied.model.layers[0].mlp.forward.__self__ is copied.model.layers[0].mlp


def test_a_second_policy_replaces_the_first_and_a_cache_is_left_out():
    model, ids = llama(use_cache=True).train(), torch.randint(0, 64, (2, 12))
    rt.apply(model, Policy.selective("mlp"))
    rt.apply(model, Policy.full())
    with pytest.warns(UserWarning, match="past_key_values"):
        step(model, ids)
    assert rt.remove(model) and not rt.remove(model)


def test_transformers_own_switch():
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    want = step(model, ids)
    begun = rt.stats()["regions_begun"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rt.enable_gradient_checkpointing(model)
    assert same(want, step(model, ids))
    assert rt.stats()["regions_begun"] - begun == 4
    model.gradient_checkpointing_disable()
    assert same(want, step(model, ids)) and rt.stats()["regions_begun"] - begun == 4


def test_an_attention_that_is_chosen_after_apply_is_recomputed_too():
    model, ids = llama(attn_implementation="eager"), torch.randint(0, 64, (2, 6))
    with rt.apply(model, Policy.selective("core_attn")) as applied:
        for at, name in enumerate(["eager", "sdpa", "eager", "sdpa"]):
            model.set_attn_implementation(name)
            step(model, ids)
            assert counters(applied)["core_attn"]["regions"] == 4 * (at + 1), name


def test_an_attention_that_the_program_registers_meanwhile_stays():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def own(*args, **kwargs):
        return sdpa(*args, **kwargs)

    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    first, second, ids = llama(), llama(), torch.randint(0, 64, (2, 6))
    try:
        with rt.apply(first, Policy.selective("core_attn")):
            ALL_ATTENTION_FUNCTIONS.register("sdpa", own)
            with rt.apply(second, Policy.selective("core_attn")) as applied:
                step(second, ids)
                assert counters(applied)["core_attn"]["replays"] == 4
            assert ALL_ATTENTION_FUNCTIONS["sdpa"] is own
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is own
    finally:
        ALL_ATTENTION_FUNCTIONS.register("sdpa", sdpa)


def test_evaluation_and_generation_run_as_without():
    model, ids = llama(use_cache=True).eval(), torch.randint(0, 64, (1, 6))
    with torch.no_grad():
        want = model(ids).logits
    plain = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    with rt.apply(model, Policy.full()):
        with torch.no_grad():
            assert torch.equal(want, model(ids).logits)
        assert torch.equal(plain,
                           model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0))


def test_verify_accepts_a_faithful_model_and_names_the_layer_that_is_not():
    model, ids = mixtral().train(), torch.randint(0, 64, (2, 12))
    with rt.apply(model, Policy.selective("moe")):
        with rt.set_verify():
            step(model, ids)
            gate = model.model.layers[2].mlp.gate
            calls = [0]

            def drift(module, args, out):
                calls[0] += 1
                if calls[0] > 1:
                    return tuple(o + 1e-3 if o.is_floating_point() else o for o in out)

            hook = gate.register_forward_hook(drift)
            said = r"module 'model.layers.2.mlp' \(kind moe, layer 2\) gave other values"
            with pytest.raises(rt.CheckpointError, match=said):
                step(model, ids)
            hook.remove()


@pytest.mark.parametrize("role", ["input", "saved", "output"])
def test_what_torch_does_not_store_is_refused_by_name(role):
    model = llama()
    rule = {"kind": "core_attn", "role": role, "action": "store", "tier": "host", "first_layer": 1}
    with pytest.raises(rt.Error, match=r"core_attn.*stor") as refused:
        rt.apply(model, Policy(rules=[rule]))
    assert refused.value.status == "RC_E_UNSUPPORTED" and refused.value.field.startswith("rules")
    assert rt.applied_to(model) is None and "forward" not in model.model.layers[0].__dict__


def test_a_chunk_does_not_link_what_was_changed_between_its_layers():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, 0.0) for _ in range(4))

        def forward(self, x):
            for at, layer in enumerate(self.layers):
                x = layer(x)
                if at == 0:
                    x.add_(1.0)
            return x

    torch.manual_seed(0)
    model = Model().train()
    x = torch.randn(3, 2, 8)

    def grads():
        model.zero_grad()
        model(x).square().sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    want = grads()
    with rt.apply(model, Policy.full("uniform", 4)):
        got = grads()
    assert all(torch.equal(a, b) for a, b in zip(want, got))


@pytest.mark.parametrize("then", [None, Policy.selective("core_attn", "mlp", "layernorm")])
def test_a_policy_changed_between_forward_and_backward(then):
    model, ids = llama().train(), torch.randint(0, 64, (2, 12))
    want = step(model, ids)
    for first in (Policy.full(), Policy.full("uniform", 2), Policy.selective("mlp", "layernorm")):
        rt.apply(model, first)
        model.zero_grad()
        torch.manual_seed(1)
        loss = model(input_ids=ids, labels=ids).loss
        rt.remove(model)
        if then is not None:
            rt.apply(model, then)
        loss.backward()
        rt.remove(model)
        assert same(want, [loss.detach()] + [p.grad for p in model.parameters()])


@pytest.mark.parametrize("rule", [Rule("*.self_attn", "discard"), Rule("*.self_attn", "recompute")])
def test_attention_of_torch_that_gets_one_tensor_three_times(rule):
    torch.manual_seed(0)
    model, x = TorchEncoder().train(), torch.randn(2, 8, 16)

    def run():
        return step_of(model, lambda: model(x))

    want = run()
    with rt.apply(model, Policy(paths=[rule])):
        assert same(want, run())
