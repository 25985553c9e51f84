# tests/test_discard.py: outputs that are freed once read, and made again where they were.
from __future__ import annotations

import pytest
import torch
from torch import nn

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
        z.register_hook(lambda g: seen.append((type(y), y.untyped_storage().nbytes(), y.untyped_storage()._cdata == address)))
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
    norm, linear, x, leaves, want = parts
    discarded = rt.discard_output(norm)
    with rt.discards():
        y = discarded(x)
        z = linear(y)
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
    regions = []
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
    x.grad = None
    with rt.discards():
        z = discarded(y := x * 1).sin()
    z.sum().backward()
    assert torch.equal(x.grad, x.cos())


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
