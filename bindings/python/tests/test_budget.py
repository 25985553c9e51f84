# tests/test_budget.py: policies planned from a budget: what was predicted is what is measured, and
# never more than allowed.
from __future__ import annotations

import copy
import io
import re
import threading
import warnings

import pytest
import torch
import torch.utils.checkpoint as stock
from torch import nn

import rcore.torch as rt
from rcore.torch import Policy
from rcore.torch.budget import plan_within, settings_of
from rcore.torch.forecast import Choice, Group

pytest.importorskip("transformers")
from models import FAMILIES, TorchEncoder, llama, same, step, step_of

SHAPE = (2, 24)


def make(family="llama"):
    torch.manual_seed(0)
    return FAMILIES[family]().train()


def ids(shape=SHAPE):
    return torch.randint(0, 64, shape, generator=torch.Generator().manual_seed(7))


def measured(model, policy, inputs):
    """The most saved bytes of one step under a policy."""
    with rt.apply(model, policy), rt.watch(model) as watched:
        step(model, inputs)
    return watched.saved_peak


def forecast_of(model, inputs):
    """The forecast that the model's warm-up makes."""
    made = []

    def note(limit, forecast):
        made.append(forecast)
        return plan_within(limit, forecast)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rcore.torch.budgeted.plan_within", note)
        with rt.apply(model, Policy.budget(1.0)):
            step(model, inputs)
    return made[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_ten_budgets_are_kept_predicted_and_give_the_same_bits(family):
    model, inputs = make(family), ids()
    want = step(model, inputs)
    everything = measured(model, Policy.none(), inputs)
    least = forecast_of(model, inputs).peak(Choice(whole=4))
    for tenth in range(10):
        limit = least + (everything - least) * tenth // 9
        rt.apply(model, Policy.budget(limit))
        for _ in range(3):
            assert same(want, step(model, inputs))
        budget = rt.report(model).budget
        # What a branch that ends in nothing saves is gone before the forward is (a router's, a few
        # bytes).
        assert everything <= budget["keep_all_bytes"] <= 1.01 * everything and budget[
            "budget_bytes"] == limit
        assert budget["measured_bytes"] <= limit
        assert abs(budget["measured_bytes"] -
                   budget["predicted_bytes"]) <= 0.02 * budget["predicted_bytes"]
    rt.remove(model)


HAND = {
    "core_attn": (Policy.selective("core_attn"), ("core_attn",)),
    "layernorm": (Policy.selective("layernorm"), ("attn_norm", "mlp_norm")),
    "mlp": (Policy.selective("mlp"), ("mlp",)),
    "all three": (Policy.selective("core_attn", "layernorm",
                                   "mlp"), ("core_attn", "attn_norm", "mlp_norm", "mlp")),
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_forecast_of_every_hand_policy_is_exact_and_no_plan_is_worse(attention):
    torch.manual_seed(0)
    model, inputs = llama(attn_implementation=attention).train(), ids()
    forecast = forecast_of(model, inputs)
    choices = {
        name: (policy, Choice(frozenset(Group(k, layer) for k in kinds for layer in range(4))))
        for name, (policy, kinds) in HAND.items()
    }
    choices["keep"] = Policy.none(), Choice()
    choices["each layer"] = Policy.full("uniform", 1), Choice(whole=4)
    choices["first two"] = Policy.full("block", 2), Choice(whole=2)
    choices["chunks of 2"] = Policy.full("uniform", 2), Choice(unit=2)
    choices["one chunk"] = Policy.full("uniform", 4), Choice(unit=4)
    for name, (policy, choice) in choices.items():
        assert measured(model, policy, inputs) == forecast.peak(choice), name
        plan = plan_within(forecast.peak(choice), forecast)
        assert plan.predicted_bytes <= forecast.peak(choice), name
        assert plan.replay_seconds <= forecast.seconds(choice) * 1.001, name


FROZEN = {
    "all but the queries": lambda name: ".q_" not in name,
    "all but the norms": lambda name: "norm" not in name,
    "first half": lambda name: any(part in name for part in ("embed", "layers.0.", "layers.1.")),
    "norms": lambda name: "norm" in name,
}


@pytest.mark.parametrize("frozen", FROZEN)
@pytest.mark.parametrize("family", ["llama", "deepseek"])
def test_the_forecast_is_never_below_what_a_model_with_frozen_parts_takes(family, frozen):
    model, inputs = make(family), ids()
    for name, p in model.named_parameters():
        p.requires_grad_(not FROZEN[frozen](name))
    forecast = forecast_of(model, inputs)
    for kinds in (("attn_norm", "mlp_norm"), ("attn_norm", "core_attn"), ("mlp", "mlp_norm"),
                  ("mla_up_proj", "attn_norm", "mlp_norm", "core_attn", "mlp", "moe_act")):
        for layers in (range(4), range(0, 4, 2)):
            groups = [g for g in forecast.groups if g.kind in kinds and g.layer in layers]
            if not groups:
                continue
            choice = Choice(frozenset(groups))
            taken = measured(model, Policy(rules=settings_of(forecast, choice)["rules"]), inputs)
            assert 0.97 * forecast.peak(choice) <= taken <= forecast.peak(choice), (kinds, layers)


def test_a_budget_below_all_is_refused_with_the_least_that_would_do():
    model, inputs = make(), ids()
    rt.apply(model, Policy.budget("1KB"))
    with pytest.raises(rt.Error, match="the least that would do is") as refused:
        step(model, inputs)
    assert refused.value.status == "RC_E_BUDGET" and refused.value.field == "budget"
    least = int(re.search(r"least that would do is (\d+)", str(refused.value))[1])
    want = step((rt.remove(model), model)[1], inputs)
    rt.apply(model, Policy.budget(least))
    for _ in range(2):
        assert same(want, step(model, inputs))
    assert rt.report(model).budget["measured_bytes"] <= least
    rt.apply(model, Policy.budget(least - 1))
    with pytest.raises(rt.Error, match=f"the least that would do is {least} "):
        step(model, inputs)
    rt.remove(model)


class Deep(nn.Module):
    """Layers that save little beside their inputs: below the sum of these, several layers share
    one.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Tanh(), nn.Tanh()) for _ in range(n))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x.square().mean()


def test_below_the_sum_of_the_inputs_layers_share_one():
    model, x = Deep(16), torch.randn(8, 32, requires_grad=True)

    def run():
        model.zero_grad()
        x.grad = None
        model(x).backward()
        return [x.grad.clone()] + [p.grad.clone() for p in model.parameters()]

    want = run()
    rt.apply(model, Policy.budget(15 * 1024),
             mapping={"layers.[0-9]": "layer", "layers.[0-9][0-9]": "layer"})
    for _ in range(3):
        assert same(want, run())
    budget = rt.report(model).budget
    assert budget["rules"][0]["group_layers"] > 1
    assert budget["measured_bytes"] == budget[
        "predicted_bytes"] <= 15 * 1024 < budget["keep_all_bytes"] // 3
    rt.remove(model)


def test_torch_layers_with_dropout():
    torch.manual_seed(0)
    model, x = TorchEncoder().train(), torch.randn(2, 6, 16)

    def run():
        return step_of(model, lambda: model(x))

    want = run()
    rt.apply(model, Policy.budget(0.5))
    for _ in range(3):
        assert same(want, run())
    budget = rt.report(model).budget
    assert budget["measured_bytes"] == budget["predicted_bytes"] <= budget[
        "budget_bytes"] == budget["keep_all_bytes"] // 2
    rt.remove(model)


def test_each_shape_has_its_own_warm_up_and_plan():
    model = make()
    want = {shape: step(model, ids(shape)) for shape in ((2, 24), (1, 8))}
    applied = rt.apply(model, Policy.budget(0.4))
    for _ in range(3):
        for shape, result in want.items():
            assert same(result, step(model, ids(shape)))
    assert len(applied.budget.plans) == 2
    applied.budget.read_meter(stop=True)
    for signature, plan in applied.budget.plans.items():
        assert applied.budget.measured[signature] <= plan.budget_bytes
    rt.remove(model)


def test_evaluation_and_accumulation_need_no_marks():
    model, inputs = make(), ids()
    want = step(model, inputs)
    applied = rt.apply(model, Policy.budget(0.5))
    with torch.no_grad():
        model(input_ids=inputs, labels=inputs)
    assert not applied.budget.plans
    step(model, inputs)
    model.zero_grad()
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        losses.append(model(input_ids=inputs, labels=inputs).loss)
    sum(losses).backward()
    twice = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b + b) for a, b in zip(twice, want[1:]))
    rt.remove(model)


def test_copies_pickles_and_names_are_the_models_own():
    model, inputs = make(), ids()
    names, want = list(model.state_dict()), step(model, inputs)
    with rt.apply(model, Policy.budget(0.5)):
        step(model, inputs)
        assert list(model.state_dict()) == names
        kept = io.BytesIO()
        torch.save(model, kept)
        kept.seek(0)
        loaded, copied = torch.load(kept, weights_only=False), copy.deepcopy(model)
        assert same(want, step(loaded, inputs)) and same(want, step(copied, inputs))
    assert "forward" not in model.__dict__ and same(want, step(model, inputs))


def test_the_report_shows_the_budget():
    model, inputs = make(), ids()
    rt.apply(model, Policy.budget(0.5))
    assert rt.report(model).budget is None
    step(model, inputs)
    assert rt.report(model).budget["measured_bytes"] is None and "not measured yet" in str(
        rt.report(model))
    step(model, inputs)
    report = rt.report(model)
    assert f"{report.budget['measured_bytes']} measured" in str(
        report) and '"predicted_bytes"' in report.to_json()
    assert report.totals["replays"] > 0
    with rt.watch(model) as watched:
        step(model, inputs)
    assert rt.report(model, watched).saved_peak == report.budget["measured_bytes"]
    rt.remove(model)


@pytest.mark.parametrize("limit, bytes_or_share", [("6GB", 6 * 10**9), ("1.5 GiB", 3 * 2**29),
                                                   ("512MiB", 2**29), (12, 12), (0.25, 0.25),
                                                   (1.0, 1.0), ("300", 300)])
def test_limits_are_read(limit, bytes_or_share):
    assert Policy.budget(limit).limit == bytes_or_share


@pytest.mark.parametrize("limit", ["6 parsecs", "", "-1GB", 0, -3, 1.5, True, None, 0.0])
def test_wrong_limits_are_refused(limit):
    with pytest.raises(rt.Error, match="budget"):
        Policy.budget(limit)


def test_a_meter_counts_a_storage_once_and_no_parameter():
    linear = nn.Linear(8, 8)
    x = torch.randn(4, 8, requires_grad=True)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear

        def forward(self, v):
            y = v * 2  # 128 bytes
            return (self.linear(y) + y.sin() + y.view(32).cos().view(4, 8)).sum()

    with rt.watch(Twice()) as nothing:
        pass
    assert nothing.saved_peak == 0
    model = Twice()
    with rt.watch(model) as watched:
        out = model(x)
        assert watched.saved_peak == 128
        with pytest.raises(rt.Error, match="another model"), rt.watch(linear):
            pass
        out.backward()
    assert watched.saved_peak == 128


def test_a_watch_takes_over_from_the_meter_of_another_models_budget():
    budgeted, other, inputs = make(), make("gpt2"), ids()
    rt.apply(budgeted, Policy.budget(0.5))
    step(budgeted, inputs)
    step(budgeted, inputs)
    with rt.watch(other) as watched:
        step(other, inputs)
    assert watched.saved_peak > 0
    budget = rt.report(budgeted).budget
    assert budget["measured_bytes"] == budget["predicted_bytes"]
    rt.remove(budgeted)


def test_no_warning_from_a_budget():
    model, inputs = make(), ids()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rt.apply(model, Policy.budget(0.3))
        for _ in range(3):
            step(model, inputs)
    rt.remove(model)


def test_what_other_models_save_meanwhile_is_not_counted():
    first, second, third = make(), make("gpt2"), make()
    rt.apply(third, Policy.selective("core_attn", "layernorm", "mlp"))
    budgets = [rt.apply(m, Policy.budget(0.5)) for m in (first, second)]
    inputs = ids()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(3):
            losses = [m(input_ids=inputs, labels=inputs).loss for m in (first, third, second)]
            sum(losses).backward()
    found = budgets[1].budget.describe()
    assert found["measured_bytes"] == found["predicted_bytes"]
    for m in (first, second, third):
        rt.remove(m)


def test_hooks_around_a_budget_take_what_they_take_without():
    model, inputs = make(), ids()
    want = step(model, inputs)
    counts = []

    def take(t):
        counts[-1] += 1
        return t.clone()

    rt.apply(model, Policy.budget(0.5))
    for _ in range(4):  # the warm-up, the measured step, and two that nobody looks at
        counts.append(0)
        with torch.autograd.graph.saved_tensors_hooks(take, lambda t: t):
            got = step(model, inputs)
        assert same(want, got)
    assert counts[0] > 10 and counts[1] == counts[2] == counts[3] > 20
    rt.remove(model)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_hooks_around_a_budget_change_nothing_that_it_measures(share):
    model, inputs = make(), ids()
    rt.apply(model, Policy.budget(share))
    for _ in range(2):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), lambda t: t):
            step(model, inputs)
    found = rt.report(model).budget
    assert found["measured_bytes"] == found["predicted_bytes"] <= found["budget_bytes"]
    rt.remove(model)


def test_two_forwards_before_their_backwards():
    """The plan of the first holds for the second; the first is replayed as it ran."""
    model, inputs = make(), ids()

    def both():
        return step_of(model, lambda: sum([model(input_ids=i, labels=i).loss
                                           for i in (inputs, inputs.flip(0))]))

    want = both()
    rt.apply(model, Policy.budget(0.5))
    for _ in range(2):
        assert same(want, both())
    rt.remove(model)


def test_what_another_thread_runs_meanwhile_is_not_recorded():
    model, inputs = make(), ids()
    others, threads = ids((3, 8)), []

    def meanwhile(module, arguments, keywords=None):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: step(model, others))
            threads.append(thread)
            thread.start()
            thread.join()

    want = forecast_of(model, inputs)
    hook = model.model.layers[1].mlp.register_forward_pre_hook(meanwhile)
    got = forecast_of(model, inputs)
    hook.remove()
    assert threads and all(not t.is_alive() for t in threads)
    assert got.end == want.end and got.peak(Choice()) == want.peak(Choice())
    assert [s.place.path for s in got._observed.sites] == [
        s.place.path for s in want._observed.sites
    ]


@pytest.mark.parametrize("around", [rt.checkpoint, stock.checkpoint])
def test_inside_a_region_nothing_is_planned(around):
    model, inputs = make(), ids()

    def both():
        return step_of(model, lambda: sum([
            around(lambda i: model(input_ids=i, labels=i).loss, i, use_reentrant=False)
            for i in (inputs, inputs.flip(0))]))

    want = both()
    rt.apply(model, Policy.budget(0.5))
    for _ in range(2):
        assert same(want, both())
    assert rt.report(model).budget is None
    rt.remove(model)
