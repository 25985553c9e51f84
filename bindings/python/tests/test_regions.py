# tests/test_regions.py: what no other checkpoint has: explicit replay, recorded decisions, state
# changed once.
from __future__ import annotations

import functools
import weakref

import pytest
import torch
from torch import nn

import rcore.torch as rt


def ours(function, *args, **kwargs):
    return rt.checkpoint(function, *args, use_reentrant=False, **kwargs)


class Counter:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


# ---- explicit replay


def test_a_replay_ahead_of_backward_serves_it():
    f = Counter(lambda v: v.sin().exp().cos())
    x = torch.randn(4, requires_grad=True)
    with rt.collect_regions() as regions:
        out = ours(f, x)
    (region,) = regions
    assert not region.ready and region.info()["state"] == 3  # RC_REGION_EMPTY
    region.replay()
    region.replay()
    assert region.ready and f.calls == 2 and region.info()["state"] == 4
    out.sum().backward()
    assert f.calls == 2
    want = torch.autograd.grad(f.function(x).sum(), x)[0]
    assert torch.equal(x.grad, want)


def test_input_and_weight_gradients_in_two_passes_share_one_replay():
    layer = nn.Linear(4, 4)
    f = Counter(lambda v: layer(v.sin()).exp())
    x = torch.randn(3, 4, requires_grad=True)
    with rt.collect_regions() as regions:
        loss = ours(f, x).sum()
    regions[0].replay()
    (dx,) = torch.autograd.grad(loss, x, retain_graph=True)
    dw, db = torch.autograd.grad(loss, list(layer.parameters()))
    assert f.calls == 2
    want = torch.autograd.grad(layer(x.sin()).exp().sum(), [x, *layer.parameters()])
    assert all(torch.equal(a, b) for a, b in zip((dx, dw, db), want))


def test_release_drops_the_values_and_backward_replays_again():
    f = Counter(lambda v: v.sin().exp())
    refs = []
    x = torch.randn(4, requires_grad=True)

    def g(v):
        y = v.sin()
        refs.append(weakref.ref(y))
        return y.cos()

    f.function = g
    with rt.collect_regions() as regions:
        out = ours(f, x)
    regions[0].replay()
    assert refs[1]() is not None
    regions[0].release()
    assert refs[1]() is None
    out.sum().backward()
    assert f.calls == 3


def test_shared_values_go_with_the_graph():
    refs = []

    def g(v):
        y = v.sin()
        refs.append(weakref.ref(y))
        return y.cos()

    x = torch.randn(4, requires_grad=True)
    with rt.collect_regions() as regions:
        out = ours(g, x)
    regions[0].replay()
    out.sum().backward()
    assert refs[1]() is None
    regions.clear()


def test_replaying_while_the_forward_runs_is_an_error():
    seen = []

    def f(v):
        with rt.collect_regions() as regions:
            y = ours(lambda u: u.sin(), v)
        seen.extend(regions)
        return y

    x = torch.randn(4, requires_grad=True)
    out = ours(f, x)
    seen[0].replay()
    out.sum().backward()
    assert torch.equal(x.grad, x.cos())
    seen.clear()


# ---- the phase


def test_is_replaying_tells_the_two_runs_apart():
    seen = []

    def f(v):
        seen.append(rt.is_replaying())
        return ours(lambda u: (seen.append(rt.is_replaying()), u.sin())[1], v).exp()

    x = torch.randn(4, requires_grad=True)
    out = ours(f, x)
    assert seen == [False, False] and not rt.is_replaying()
    out.sum().backward()
    assert seen[2:] == [True, True, True] and not rt.is_replaying()


# ---- recorded decisions


class Router(nn.Module):
    """Two experts, and scores that the second run sees a little differently, as another kernel
    would.
    """

    def __init__(self, record):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.record, self.drift, self.chosen = record, 0.0, []

    def forward(self, x):
        scores = torch.tensor([0.5, 0.5 + self.drift])
        choice = scores.topk(1).indices
        if self.record:
            choice = rt.record(choice)
        self.chosen.append(int(choice))
        return self.experts[int(choice)](x).tanh()


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_near_tie_flips_without_a_record(record, nested):
    router = Router(record)
    x = torch.randn(2, 4, requires_grad=True)
    router.drift = -1e-6
    out = ours(lambda v: ours(router, v).sin(), x) if nested else ours(router, x)
    router.drift = 1e-6
    out.sum().backward()
    assert router.chosen[0] == 0
    if record:
        assert set(router.chosen) == {0}
        assert router.experts[0].weight.grad is not None and router.experts[1].weight.grad is None
    else:
        assert 1 in router.chosen


def test_records_of_any_dtype_and_shape_in_order():
    values = [
        torch.arange(6).reshape(2, 3),
        torch.tensor(True),
        torch.rand(3, dtype=torch.bfloat16),
        torch.rand(4, 2).t()
    ]
    run = [0]

    def f(v):
        run[0] += 1
        got = [rt.record(t.clone() if run[0] == 1 else torch.zeros_like(t)) for t in values]
        assert all(torch.equal(a, b) for a, b in zip(got, values))
        return v.sin()

    x = torch.randn(3, requires_grad=True)
    out = ours(f, x)
    for _ in range(3):
        out.sum().backward(retain_graph=True)
    assert run[0] == 4
    del out


def test_a_record_that_does_not_match_is_an_error():
    shape = [2]
    x = torch.randn(3, requires_grad=True)
    out = ours(lambda v: v.sin() * rt.record(torch.ones(shape[0])).sum(), x)
    shape[0] = 3
    with pytest.raises(rt.CheckpointError, match="another shape or dtype"):
        out.sum().backward()
    assert torch.equal(rt.record(x), x)


def test_a_recorded_value_keeps_its_gradient():
    run = [0]

    def f(v):
        run[0] += 1
        scale = rt.record(v.exp() + (0 if run[0] == 1 else 1e-3))
        return (v * scale).sin()

    x = torch.randn(3, requires_grad=True)
    ours(f, x).sum().backward()
    want = torch.autograd.grad((x * x.exp()).sin().sum(), x)[0]
    assert torch.equal(x.grad, want)


# ---- state


class Scaled(nn.Module):
    """An amax history and a scale, as FP8 layers have them, and a counter of load."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.register_buffer("history", torch.zeros(4))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("load", torch.zeros(2, dtype=torch.long))
        self.register_buffer("constant", torch.arange(4.0))

    def forward(self, x):
        y = self.inner(x * self.scale.clone()) + self.constant
        with torch.no_grad():
            self.history = torch.roll(self.history, 1)
            self.history[0] = y.abs().max()
            self.scale.copy_(1 / self.history.max())
            self.load[0] += x.shape[0]
        return y.tanh()


@pytest.mark.parametrize(
    "make", [lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh()), Scaled])
def test_buffers_change_once_and_replay_sees_the_forwards(make):
    torch.manual_seed(3)
    plain, region = make(), make()
    region.load_state_dict(plain.state_dict())
    for _ in range(3):
        x = torch.randn(8, 4)
        a = x.clone().requires_grad_()
        b = x.clone().requires_grad_()
        (plain(plain(a))).sum().backward()
        (ours(region, ours(region, b))).sum().backward()
        assert torch.equal(a.grad, b.grad)
        for (name, p), (_, q) in zip(plain.state_dict().items(), region.state_dict().items()):
            assert torch.equal(p, q), name
        for p, q in zip(plain.parameters(), region.parameters()):
            assert torch.equal(p.grad, q.grad)
    region.eval()
    ours(region, torch.randn(8, 4, requires_grad=True)).sum().backward()


class Two(nn.Module):
    """Runs one of its parts, by their number."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(
            [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))])

    def forward(self, x):
        for at in range(2):
            x = rt.checkpoint(lambda v, at=at: self.parts[at](v).exp(), x, use_reentrant=False)
        for at in range(2):
            x = rt.checkpoint(self.part, at, x, use_reentrant=False)
        return x

    def part(self, at, x):
        return self.parts[at](x).sin()


class Holder:
    def __init__(self, module):
        self.module = module

    def run(self, x):
        return self.module(x).exp()


NORM = nn.BatchNorm1d(4)


def custom_forward(module):
    def run(*inputs):
        return module(*inputs)

    return run


@pytest.mark.parametrize(
    "region", [
        lambda norm, x: rt.checkpoint(lambda v: norm(v).exp(), x, use_reentrant=False),
        lambda norm, x: rt.checkpoint(custom_forward(norm), x, use_reentrant=False),
        lambda norm, x: rt.checkpoint(lambda m, v: m(v).exp(), norm, x, use_reentrant=False),
        lambda norm, x: rt.checkpoint(lambda v, *, m: m(v).exp(), x, m=norm, use_reentrant=False),
        lambda norm, x: rt.checkpoint(lambda v, m=[norm]: m[0](v), x, use_reentrant=False),
        lambda norm, x: rt.checkpoint(functools.partial(custom_forward(norm)), x,
                                      use_reentrant=False),
        lambda norm, x: rt.checkpoint(Holder(norm).run, x, use_reentrant=False),
        lambda norm, x: rt.checkpoint(lambda v: NORM(v).exp(), x, use_reentrant=False),
        lambda norm, x: rt.checkpoint(lambda v: norm(v).exp(), x, use_reentrant=False,
                                      early_stop=False),
        lambda norm, x: rt.checkpoint(lambda v: norm(v).exp(), x, use_reentrant=False,
                                      determinism_check="verify"),
        lambda norm, x: rt.discard_output(norm)(x),
        lambda norm, x: rt.discard_output(lambda v: norm(v).exp())(x),
    ])
def test_buffers_of_a_module_that_a_function_runs_change_once(region):
    norm = NORM
    norm.reset_running_stats()
    x = torch.randn(8, 4, requires_grad=True)
    for step in range(3):
        with rt.discards():
            out = region(norm, x).sin()
        mean, count = norm.running_mean.clone(), norm.num_batches_tracked.item()
        out.sum().backward()
        assert count == norm.num_batches_tracked.item() == step + 1
        assert torch.equal(mean, norm.running_mean)


def test_a_method_that_runs_one_part_or_another_changes_the_buffers_of_each_once():
    model, x = Two(), torch.randn(8, 4, requires_grad=True)
    for step in range(3):
        model(x).sum().backward()
        assert model.parts[1][1].num_batches_tracked.item() == 2 * (step + 1)


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_record_behind_gradients_inside_the_region(early_stop):
    def f(v):
        (inside,) = torch.autograd.grad(leaf.exp().sum(), leaf)
        choice = rt.record(v.detach().argmax(0))
        chosen.append(choice)
        return v.sin() * inside * choice

    chosen, leaf = [], torch.randn(4, requires_grad=True)
    x = torch.randn(3, 4, requires_grad=True)
    ours(f, x, early_stop=early_stop).sum().backward()
    want, x.grad = x.grad, None
    f(x).sum().backward()
    assert torch.equal(want, x.grad) and all(torch.equal(c, chosen[0]) for c in chosen)
