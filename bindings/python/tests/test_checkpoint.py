# tests/test_checkpoint.py: gradients bit for bit, whatever the function takes, returns and does.
from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import rcore.torch as rt
from regions import MODELS, Counter, Mlp, assert_same, grads_of, ours, plain, x4


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("early_stop", [True, False])
def test_gradients_have_the_bits_of_a_run_without_it(name, early_stop):
    model = MODELS[name]()
    x = torch.randn(2, 4, 4, requires_grad=True)
    want = grads_of(plain, model, [x], list(model.parameters()))
    got = grads_of(lambda f, *a: ours(f, *a, early_stop=early_stop), model, [x],
                   list(model.parameters()))
    assert_same(want, got)


def test_every_call_is_a_region_of_the_core():
    before = rt.stats()
    x = x4()
    for _ in range(13):
        ours(lambda v: v.sin().cos(), x).sum().backward()
    after = rt.stats()
    assert after["regions_begun"] - before["regions_begun"] == 13
    assert after["replays"] - before["replays"] == 13


def test_input_that_needs_no_gradient_with_trainable_parameters():
    model = Mlp()
    x = x4(False)
    want = grads_of(plain, model, [x], list(model.parameters()))
    got = grads_of(ours, model, [x], list(model.parameters()))
    assert len(got) == 5
    assert_same(want, got)


def test_frozen_base_with_low_rank_adapters_trains_the_adapters():
    class Lora(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1, bias=False), nn.Linear(
                1, 4, bias=False)
            self.base.requires_grad_(False)

        def forward(self, x):
            return self.base(x).relu() + self.b(self.a(x))

    model, x = Lora(), x4(False)
    want = grads_of(plain, model, [x], list(model.parameters()))
    got = grads_of(ours, model, [x], list(model.parameters()))
    assert len(got) == 3 and model.base.weight.grad is None
    assert_same(want, got)


def test_keywords_structures_and_other_objects():
    class Box:
        def __init__(self, value):
            self.value = value

    def f(x, scale, box, *, pair, flag=False, more=None):
        assert flag and more == {"k": 3}
        return (x * scale * box.value * pair[0] * pair[1]["y"]).sin()

    def run(call):
        tensors = [torch.full((3,), v, requires_grad=True) for v in (1.0, 2.0, 3.0, 4.0)]
        out = call(f, tensors[0], 2.5, Box(tensors[1]), pair=(tensors[2], {"y": tensors[3]}),
                   flag=True, more={"k": 3})
        out.sum().backward()
        return [t.grad for t in tensors]

    assert_same(run(plain), run(ours))


def test_outputs_of_any_structure():
    def f(x):
        return {"a": x.sin(), "b": [x.cos(), 5, None]}, "text"

    x = x4()
    (out, text) = ours(f, x)
    assert text == "text" and out["b"][1:] == [5, None]
    (out["a"] + out["b"][0]).sum().backward()
    assert torch.equal(x.grad, x.cos() - x.sin())


def test_grad_api_with_and_without_inputs():
    model, x = Mlp(), x4()
    want = torch.autograd.grad(model(x).sum(), [x, model.up.weight])
    got = torch.autograd.grad(ours(model, x).sum(), [x, model.up.weight])
    assert_same(want, got)
    out = ours(model, x)
    out.sum().backward(inputs=[model.down.weight])
    assert model.up.weight.grad is None and x.grad is None and model.down.weight.grad is not None


def test_retain_graph_replays_for_every_backward():
    f = Counter(lambda v: v.sin().exp().cos())
    x = x4()
    out = ours(f, x)
    out.sum().backward(retain_graph=True)
    first = x.grad.clone()
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    assert f.calls == 4
    assert torch.equal(x.grad, first + first + first)


def test_double_backward():
    def second(call):
        x = torch.randn(3, dtype=torch.double,
                        generator=torch.Generator().manual_seed(1)).requires_grad_()
        (g,) = torch.autograd.grad(
            call(lambda v: (v.sin() * v).exp(), x).sum(), x, create_graph=True)
        (gg,) = torch.autograd.grad((g * g).sum(), x)
        return [g.detach(), gg]

    assert_same(second(plain), second(ours))
    assert torch.autograd.gradgradcheck(lambda v: ours(lambda u: u.sin() * u, v),
                                        torch.randn(3, dtype=torch.double, requires_grad=True))


def test_partial_backward_frees_and_the_rest_replays_again():
    f = Counter(lambda v: (v.sin(), v.cos()))
    x = x4()
    a, b = ours(f, x)
    a.sum().backward()
    assert f.calls == 2
    b.sum().backward()
    assert f.calls == 3
    assert torch.equal(x.grad, x.cos() + -x.sin())


def test_an_output_that_nobody_needs():
    x = x4()
    a, b = ours(lambda v: (v.sin(), v.exp()), x)
    del b
    a.sum().backward()
    assert torch.equal(x.grad, x.cos())


def test_a_parameter_used_inside_and_outside():
    w = torch.randn(4, 4, requires_grad=True)

    def run(call):
        w.grad = None
        x = torch.ones(4, 4)
        y = call(lambda v: (v @ w).tanh(), x)
        (y @ w).sum().backward()
        return [w.grad.clone()]

    assert_same(run(plain), run(ours))


def test_tied_weights_sum_in_the_same_order():
    layer = nn.Linear(4, 4)
    f = lambda v: layer(layer(layer(v).tanh()).tanh())  # noqa: E731
    x = x4()
    assert_same(grads_of(plain, f, [x], list(layer.parameters())),
                grads_of(ours, f, [x], list(layer.parameters())))


def test_detached_tensors_inside():
    def f(v):
        return v.sin() * v.detach().exp() + v.cos().detach()

    x = x4()
    assert_same(grads_of(plain, f, [x]), grads_of(ours, f, [x]))


def test_no_grad_inside_and_around():
    def f(v):
        with torch.no_grad():
            scale = v.exp().mean()
        return v.sin() * scale

    x = x4()
    assert_same(grads_of(plain, f, [x]), grads_of(ours, f, [x]))
    with torch.no_grad():
        out = ours(f, x)
    assert not out.requires_grad


def test_in_place_operators_inside():
    def f(v):
        y = v * 2
        y.add_(1).mul_(v)
        return y.relu_()

    x = x4()
    assert_same(grads_of(plain, f, [x]), grads_of(ours, f, [x]))


def test_in_place_on_the_output_and_views_of_it():
    def run(call):
        x = torch.arange(1.0, 7.0).reshape(2, 3).requires_grad_()
        y = call(lambda v: (v * v)[:, 1:], x)
        y.mul_(3)
        y[0].add_(1)
        y.sum().backward()
        return [x.grad]

    assert_same(run(plain), run(ours))


def test_view_and_alias_outputs():
    def run(call):
        x = torch.arange(1.0, 7.0).requires_grad_()
        same, view = call(lambda v: (v, v.view(2, 3)), x)
        (same.sin().sum() + view.cos().sum()).backward()
        return [x.grad]

    assert_same(run(plain), run(ours))


def test_changing_an_argument_in_place_before_backward_is_an_error():
    x = x4()
    y = x * 1
    out = ours(lambda v: v.sin(), y)
    with torch.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_saved_objects_keep_their_identity():
    seen = []

    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(y)
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            seen.append(ctx.saved_tensors[0])
            return g, None

    a, b = torch.ones(1, requires_grad=True), torch.ones(1)
    ours(Keep.apply, a, b).backward()
    assert seen[0] is b


def test_custom_functions_with_several_saved_tensors():
    class F(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            out = a * b
            ctx.save_for_backward(a, b, out)
            return out

        @staticmethod
        def backward(ctx, g):
            a, b, out = ctx.saved_tensors
            return g * b + out * 0, g * a + out * 0

    x, y = x4(), x4()
    f = lambda u, v: F.apply(u.sin(), v.cos()).exp()  # noqa: E731
    assert_same(grads_of(plain, f, [x, y]), grads_of(ours, f, [x, y]))


def test_saved_tensors_asked_for_twice_in_one_backward():
    class F(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a.exp())
            return a.exp()

        @staticmethod
        def backward(ctx, g):
            assert len(ctx.saved_tensors) == 1
            return g * ctx.saved_tensors[0]

    x = x4()
    out = ours(lambda v: F.apply(v.sin()), x)
    with pytest.raises(rt.CheckpointError, match="already unpacked once"):
        out.sum().backward()


def test_saved_tensors_read_outside_of_backward():
    f = Counter(lambda v: v.exp())
    x = x4()
    out = ours(f, x)
    node = out.grad_fn
    assert torch.equal(node._saved_result, out) and torch.equal(node._saved_result, out)
    assert f.calls == 3
    out.sum().backward()
    assert torch.equal(x.grad, out)


def test_backward_inside_the_region():
    def f(v):
        with torch.enable_grad():
            u = v.detach().requires_grad_()
            (g,) = torch.autograd.grad(u.sin().exp().sum(), u)
        return (v * g).tanh()

    def g(v):
        y = v.sin().exp()
        (d,) = torch.autograd.grad(y.sum(), v, retain_graph=True)
        return y * d.detach()

    def h(v):
        y = v.sin().exp()
        (d,) = torch.autograd.grad(y.sum(), v, create_graph=True)
        return (y * d).cos()

    x = x4()
    for function in (f, g, h):
        for stop in (True, False):
            assert_same(grads_of(plain, function, [x]),
                        grads_of(functools.partial(ours, early_stop=stop), function, [x]))


def test_values_stored_by_side_effect_keep_their_graph():
    kept = []

    def f(v):
        kept.append(v.cos().sum())
        return v.sin()

    x = x4()
    out = ours(f, x)
    (out.sum() + kept[0]).backward()
    assert torch.equal(x.grad, x.cos() + -x.sin())


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_put_in_the_place_of_torchs_own(monkeypatch, use_reentrant):
    original = torch.utils.checkpoint.checkpoint
    model, x = Mlp(), x4()
    want = grads_of(plain, model, [x], list(model.parameters()))
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", rt.checkpoint)

    def run(function, *args):
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=use_reentrant)

    assert_same(want, grads_of(run, model, [x], list(model.parameters())))
    parts = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    assert_same(
        grads_of(plain, parts, [x], list(parts.parameters())),
        grads_of(lambda f, v: rt.checkpoint_sequential(f, 2, v, use_reentrant=use_reentrant), parts,
                 [x], list(parts.parameters())))
    assert torch.utils.checkpoint.checkpoint is rt.checkpoint is not original
