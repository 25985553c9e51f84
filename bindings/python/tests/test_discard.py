# tests/test_discard.py: outputs that are freed once read, and made again where they were.
from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import rcore.torch as rt


def grads(run, *tensors):
    for t in tensors:
        t.grad = None
    run().sum().backward()
    return [t.grad.clone() for t in tensors]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


@pytest.fixture
def parts():
    norm, linear = nn.LayerNorm(8), nn.Linear(8, 8)
    x = torch.randn(4, 8, requires_grad=True)
    leaves = [x, *norm.parameters(), *linear.parameters()]
    return norm, linear, x, leaves, grads(lambda: linear(norm(x)), *leaves)


def test_named_the_storage_is_empty_until_backward(parts):
    norm, linear, x, leaves, want = parts
    discarded = rt.discard_output(norm)
    seen = []

    def run():
        y = discarded(x)
        address = y.untyped_storage()._cdata
        z = linear(y)
        assert discarded.discard(z) == 4 * 32
        assert y.untyped_storage().nbytes() == 0
        with pytest.raises(rt.Error, match="reads an output that was discarded"):
            y.sum()
        with pytest.raises(rt.Error, match="reads an output that was discarded"):
            y + 1
        with pytest.raises(rt.Error, match="reads an output that was discarded"):
            y[0]
        z.register_hook(lambda g: seen.append(
            (type(y), y.untyped_storage().nbytes(), y.untyped_storage()._cdata == address)))
        return z

    assert same(want, grads(run, *leaves))
    assert seen == [(torch.Tensor, 128, True)]


def test_by_its_consumer(parts):
    norm, linear, x, leaves, want = parts
    discarded = rt.discard_output(norm, consumer=linear)
    y = discarded(x)
    z = linear(y)
    assert y.untyped_storage().nbytes() == 0
    for t in leaves:
        t.grad = None
    z.sum().backward(retain_graph=True)
    assert same(want, [t.grad for t in leaves])
    for t in leaves:
        t.grad = None
    z.sum().backward()
    assert same(want, [t.grad for t in leaves])


def test_by_a_scope_nothing_is_named(parts):
    norm, linear, x, leaves, want = parts
    discarded = rt.discard_output(norm)
    weak = []

    def run():
        def inner():
            y = discarded(x)
            weak.append(y.untyped_storage()._weak_ref())
            return linear(y)

        with rt.discards():
            z = inner()
        assert torch.UntypedStorage._expired(weak[-1])
        return z

    assert same(want, grads(run, *leaves))
    z = run()
    for _ in range(2):
        for t in leaves:
            t.grad = None
        z.sum().backward(retain_graph=True)
        assert same(want, [t.grad for t in leaves])


def test_in_a_scope_whoever_holds_the_output_may_read_it(parts):
    norm, linear, x, _, _ = parts
    discarded = rt.discard_output(norm)
    with rt.discards():
        y = discarded(x)
        linear(y)
    assert torch.equal(y, norm(x))


def test_views_several_readers_and_several_outputs():
    x = torch.randn(4, 8, requires_grad=True)
    w = torch.randn(4, 4, requires_grad=True)

    def two(v):
        return v.exp(), v.tanh()

    def read(a, b):
        left = a[:, :4] @ w
        right = a.t()[4:].t() @ w
        return (left * right).sin() + b.view(2, 16).cos().view(4, 8)[:, ::2] * a[:, 4:]

    want = grads(lambda: read(*two(x)), x, w)
    discarded = rt.discard_output(two)

    def run():
        with rt.discards():
            return read(*discarded(x))

    assert same(want, grads(run, x, w))
    with rt.collect_regions() as regions:
        out = run()
    out.sum().backward()
    assert regions[0].info()["replays"] == 1


@pytest.mark.parametrize("scope", [True, False])
def test_chains(scope):
    x = torch.randn(4, 8, requires_grad=True)
    want = grads(lambda: x.exp().tanh().sin() * 2, x)
    first, second = rt.discard_output(torch.exp), rt.discard_output(torch.tanh)

    def run():
        if scope:
            with rt.discards():
                return second(first(x)).sin() * 2
        a = first(x)
        b = second(a)
        first.discard(b)
        c = b.sin()
        second.discard(c)
        return c * 2

    assert same(want, grads(run, x))


def test_an_alias_of_an_input_is_left_alone():
    x = torch.randn(4, 8, requires_grad=True)
    y = x * 1
    discarded = rt.discard_output(lambda v: v.view(32))
    out = discarded(y)
    z = out.sin()
    assert discarded.discard(z) == 0 and y.untyped_storage().nbytes() == 128
    z.sum().backward()
    assert torch.equal(x.grad, x.cos())
    for pack in (lambda t: ((t,), {}), lambda t: (([t],), {}), lambda t: ((), {"v": {"t": (t,)}})):
        first = rt.discard_output(lambda v: next(iter(tree_leaves(v))).view(32))
        x.grad = None
        with rt.discards():
            args, kwargs = pack(y := x * 1)
            z = first(*args, **kwargs).sin()
            y.detach().zero_()  # no error: no graph but the output's has saved it
        with pytest.raises(RuntimeError, match="modified by an inplace"):
            z.sum().backward()


def test_dropout_is_the_same_again():
    drop = nn.Dropout(0.5)
    x = torch.randn(64, requires_grad=True)

    def run(f):
        torch.manual_seed(5)
        with rt.discards():
            return f(x).exp()

    assert same(grads(lambda: run(drop), x), grads(lambda: run(rt.discard_output(drop)), x))


def test_discarding_needs_a_reader_and_a_gradient():
    discarded = rt.discard_output(torch.exp)
    with pytest.raises(rt.Error, match="needs a tensor that was computed"):
        discarded.discard()
    with torch.no_grad():
        assert discarded(torch.ones(2)).sum() > 0


def test_a_changed_tensor_in_a_scope_is_still_found_out():
    x = torch.randn(4, requires_grad=True)
    with rt.discards():
        y = x * 2
        z = y.exp().sin()
        w = y.sin()
    with torch.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        w.sum().backward()
    del z


def test_a_view_that_the_graph_holds_too_is_refused_like_the_output():
    x = torch.randn(2, 4, 8, requires_grad=True)
    norm, linear = nn.LayerNorm(8), nn.Linear(8, 8)
    leaves = [x, *norm.parameters(), *linear.parameters()]
    want = grads(lambda: linear(norm(x).view(8, 8)), *leaves)
    discarded = rt.discard_output(norm)

    def run():
        view = discarded(x).view(8, 8)
        z = linear(view)
        assert discarded.discard(z) == 256
        with pytest.raises(rt.Error, match="reads an output that was discarded"):
            view.sum()
        return z

    assert same(want, grads(run, *leaves))


def test_what_the_graph_saved_is_made_again_for_who_looks_at_it():
    x = torch.randn(4, 8, requires_grad=True)
    norm, linear = nn.LayerNorm(8), nn.Linear(8, 8)
    discarded = rt.discard_output(norm)
    z = linear(discarded(x))
    assert discarded.discard(z) == 128
    assert torch.equal(z.grad_fn._saved_mat1, norm(x))


@pytest.mark.parametrize("held", ["view", "output", "both"])
def test_a_view_and_its_output_are_there_again_after_backward(held):
    x = torch.randn(2, 4, 8, requires_grad=True)
    norm, linear = nn.LayerNorm(8), nn.Linear(8, 8)
    discarded = rt.discard_output(norm)
    y = discarded(x)
    view = y.view(8, 8)
    hashes = hash(y), hash(view)
    z = linear(view)
    assert discarded.discard(z) == 256
    assert (hash(y), hash(view)) == hashes
    assert y.shape == (2, 4,
                       8) and view.shape == (8,
                                             8) and view.device == x.device and view.requires_grad
    assert y.grad_fn is not None and view.grad_fn is not None and not view.is_leaf
    assert y.untyped_storage().nbytes() == view.untyped_storage().nbytes() == 0
    for t in (y, view):
        with torch._C.DisableTorchFunctionSubclass(), pytest.raises(RuntimeError):
            t + 1
    if held == "view":
        del y
    if held == "output":
        del view
    z.sum().backward(retain_graph=True)
    want = norm(x)
    if held != "view":
        assert type(y) is torch.Tensor and torch.equal(y, want)
    if held != "output":
        assert type(view) is torch.Tensor and torch.equal(view, want.view(8,
                                                                          8)) and view.requires_grad
        assert view._base is not None and torch.equal(view._base, want)
    once = x.grad.clone()
    z.sum().backward()
    assert torch.equal(x.grad, once * 2)


def test_an_output_with_a_retained_gradient_keeps_its_bytes():
    x = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(torch.exp)
    y = discarded(x)
    y.retain_grad()
    z = y.sin()
    with pytest.warns(rt.KeptOutputWarning, match="weak reference"):
        assert discarded.discard(z) == 0
    assert torch.equal(y, x.exp())
    z.sum().backward()
    assert torch.equal(x.grad, x.exp().cos() * x.exp()) and y.grad is not None


def test_a_reader_that_saved_other_bits_keeps_the_bytes():
    x = torch.randn(4, 8, requires_grad=True)
    w = torch.randn(4, 16, dtype=torch.float16)
    discarded = rt.discard_output(torch.exp)
    y = discarded(x)

    class Bits(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v.view(torch.int32))
            return v.sum()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * ctx.saved_tensors[0].view(torch.float32).view(4, 8)

    z = Bits.apply(y)
    with pytest.warns(rt.KeptOutputWarning, match="another type"):
        assert discarded.discard(z) == 0
    z.backward()
    assert torch.equal(x.grad, x.exp() * x.exp())
    del w


def test_an_output_changed_in_place_inside_a_scope_is_kept_as_it_was_read():
    x = torch.randn(4, 8, requires_grad=True)
    w = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(nn.LayerNorm(8))

    def read(y):
        before = y * w
        y.add_(1.0)
        return before + (y * w).sin()

    def scoped():
        with rt.discards():
            return read(discarded(x))

    def plain():
        y = discarded._function(x)
        before = y.clone() * w
        y.add_(1.0)
        return before + (y * w).sin()

    assert same(grads(plain, x, w), grads(scoped, x, w))


def test_a_reader_may_be_a_view_that_is_discarded_itself():
    x = torch.randn(4, 8, requires_grad=True)
    want = grads(lambda: x.exp().sin().view(32).cos(), x)
    first, second = rt.discard_output(torch.exp), rt.discard_output(lambda v: v.sin().view(32))

    def run():
        y = first(x)
        view = second(y)
        z = view.cos()
        assert second.discard(z) == 128
        assert first.discard(view) == 128
        return z

    assert same(want, grads(run, x))


def test_a_conjugated_view_in_a_scope_keeps_its_conjugation():
    x = torch.randn(4, 8, dtype=torch.complex64, requires_grad=True)
    w = torch.randn(4, 8, dtype=torch.complex64, requires_grad=True)
    discarded = rt.discard_output(torch.exp)

    def run(f):
        with rt.discards():
            return (f(x).conj() * w).abs()

    assert same(grads(lambda: run(torch.exp), x, w), grads(lambda: run(discarded), x, w))


def test_views_that_only_the_graph_holds_are_no_obstacle():
    x = torch.randn(2, 4, 8, requires_grad=True)
    norm, first, second = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
    leaves = [x, *norm.parameters(), *first.parameters(), *second.parameters()]

    def read(y):
        return (first(y) + second(y)).sin() * y + (y.transpose(1, 2) @ y).sum()

    want = grads(lambda: read(norm(x)), *leaves)
    discarded = rt.discard_output(norm)

    def run():
        z = read(discarded(x))
        assert discarded.discard(z) == 256
        return z

    assert same(want, grads(run, *leaves))


def test_a_reader_outside_of_the_named_graphs_keeps_the_bytes():
    x = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(torch.exp)
    y = discarded(x)
    z, other = y.sin(), y.cos()
    with pytest.warns(rt.KeptOutputWarning, match="frees nothing"):
        assert discarded.discard(z) == 0
    assert discarded.kept_bytes == 128 and discarded.freed_bytes == 0 and len(
        discarded.reasons) == 1
    other.sum().backward()
    assert torch.equal(x.grad, -torch.sin(torch.exp(x)) * torch.exp(x))


def test_a_backward_that_reaches_a_reader_by_another_way_fills_the_output_first():
    x = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(torch.exp)
    y = discarded(x)
    aside = y.cos()
    z = y.sin() + aside
    assert discarded.discard(z) == 128
    aside.sum().backward()
    assert torch.equal(x.grad, -torch.sin(torch.exp(x)) * torch.exp(x))


def test_an_output_changed_in_place_is_not_filled_with_what_it_was():
    x = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(lambda v: v * 2)
    y = discarded(x)
    y.add_(1)
    z = y.sin()
    with pytest.warns(rt.KeptOutputWarning, match="changed in place"):
        assert discarded.discard(z) == 0
    z.sum().backward()
    assert torch.equal(x.grad, torch.cos(x * 2 + 1) * 2)


def test_two_outputs_in_one_storage_go_and_come_together():
    x = torch.randn(4, 8, requires_grad=True)
    want = grads(lambda: (lambda a, b: a.sin() * b.cos())(*(x * 2).chunk(2)), x)
    discarded = rt.discard_output(lambda v: tuple((v * 2).chunk(2)))

    def run():
        a, b = discarded(x)
        z = a.sin() * b.cos()
        assert discarded.discard(z) == 128
        for t in (a, b):
            with pytest.raises(rt.Error, match="reads an output that was discarded"):
                t.sum()
        return z

    assert same(want, grads(run, x))


def test_nothing_of_a_discarded_output_outlives_its_backward():
    x = torch.randn(4, 8, requires_grad=True)
    discarded = rt.discard_output(torch.exp)
    y = discarded(x)
    z = y.sin()
    assert discarded.discard(z) == 128
    storage, tensor = y.untyped_storage()._weak_ref(), weakref.ref(y)
    z.sum().backward()
    del y
    assert tensor() is None and torch.UntypedStorage._expired(storage)


class Decorated(nn.Module):

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

    @rt.discard_output
    def activation(self, x):
        return self.norm(x).exp()

    def forward(self, x, how):
        if how == "scope":
            with rt.discards():
                return self.linear(self.activation(x)).sin()
        if how == "plain":
            return self.linear(self.norm(x).exp()).sin()
        y = self.activation(x)
        z = self.linear(y)
        self.freed = self.activation.discard(z)
        return z.sin()


def test_a_method_is_decorated_and_each_object_has_its_own():
    first, second, x = Decorated(), Decorated(), torch.randn(4, 8, requires_grad=True)
    leaves = x, *first.parameters(), *second.parameters()
    want = grads(lambda: second(first(x, "plain"), "plain"), *leaves)
    for how in ("scope", "name"):
        assert same(want, grads(lambda how=how: second(first(x, how), how), *leaves))
    assert first.freed == second.freed == 128
    a, b = first.activation(x), second.activation(x)
    assert first.activation.discard(first.linear(a)) == 128  # and not b
    assert torch.equal(b, second.norm(x).exp())
    assert second.activation.discard(second.linear(b)) == 128
    assert Decorated.activation.freed_bytes == 4 * 128 and not Decorated.activation.reasons
