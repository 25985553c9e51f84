# tests/test_discard_around.py: what stands around discarded outputs: regions, hooks of saved
# tensors, modes without gradients, transforms.
from __future__ import annotations

import copy
import pickle
import threading
import weakref

import pytest
import torch
import torch.utils.checkpoint as stock
from torch import nn

import rcore.torch as rt

from test_discard import grads, same


@pytest.mark.parametrize("outside", [stock.checkpoint, rt.checkpoint])
def test_a_region_around_a_scope_frees_what_is_saved_in_the_scope(outside):
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    discarded = rt.discard_output(nn.LayerNorm(8))
    weak = []

    def block(v, norm):
        y = norm(v)
        z = (y @ w).exp()  # saved by exp and by sin
        weak.append(z.untyped_storage()._weak_ref())
        return z.sin()

    def scoped(v):
        for _ in range(2):
            with rt.discards():
                v = block(v, discarded)
        return v

    want = grads(lambda: block(block(x, discarded._function), discarded._function), x, w)
    del weak[:]
    out = outside(scoped, x, use_reentrant=False)
    assert len(weak) == 2  # nothing has run again
    assert all(torch.UntypedStorage._expired(address) for address in weak)
    assert same(want, grads(lambda: out, x, w))
    assert all(torch.UntypedStorage._expired(address) for address in weak)


@pytest.mark.filterwarnings("ignore::rcore.torch.KeptOutputWarning")
@pytest.mark.parametrize("outside", [stock.checkpoint, rt.checkpoint])
def test_discarding_by_name_inside_a_region(outside):
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    norm = nn.LayerNorm(8)

    def block(v, discarded=None):
        y = (discarded or norm)(v)
        z = (y @ w).exp()
        if discarded is not None:
            freed.append(discarded.discard(z))
        return z.sin()

    freed = []
    want = grads(lambda: block(x), x, w)
    discarded = rt.discard_output(norm)
    assert same(want, grads(lambda: outside(block, x, discarded, use_reentrant=False), x, w))
    assert freed == [128, 0]  # forward, replay


def test_hooks_around_a_scope_take_what_is_saved_in_it():
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    discarded = rt.discard_output(nn.LayerNorm(8))
    taken, given = [], []

    def take(t):
        taken.append(t.clone())
        return len(taken) - 1

    def give(at):
        given.append(at)
        return taken[at]

    def run(norm):
        with rt.discards():
            return (norm(x) @ w).exp().sin()

    want = grads(lambda: run(discarded._function), x, w)
    with torch.autograd.graph.saved_tensors_hooks(take, give):
        out = run(discarded)
    assert len(taken) >= 4  # w, two of exp and sin, and the input of the region
    assert same(want, grads(lambda: out, x, w)) and sorted(set(given)) == list(range(len(taken)))


def test_a_weight_changed_in_place_after_a_scope_is_an_error_as_it_is_without():
    w, x = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)
    with rt.discards():
        out = x * w
    with torch.no_grad():
        w.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("how", ["no_grad", "inference", "frozen"])
def test_a_reader_without_a_gradient_frees_nothing_and_ruins_nothing(how):
    linear, x = nn.Linear(4, 4).requires_grad_(how != "frozen"), torch.randn(3, 4)
    discarded = rt.discard_output(torch.exp)
    modes = {"no_grad": torch.no_grad, "inference": torch.inference_mode}
    with modes.get(how, torch.enable_grad)():
        y = discarded(x)
        z = linear(y)
        assert discarded.discard(z) == 0
        assert torch.equal(y, x.exp())
    x.requires_grad_()
    y = discarded(x)
    w = torch.randn(4, 4, requires_grad=True)
    z, positive = y @ w, y.detach() > 1
    assert discarded.discard(positive, z) == 48
    z.sum().backward()
    assert torch.equal(x.grad, torch.autograd.grad((x.exp() @ w).sum(), x)[0])


@pytest.mark.parametrize("transform", ["vmap", "jvp"])
def test_what_torch_func_wraps_is_left_alone(transform):
    discarded = rt.discard_output(torch.exp)

    def run(v):
        y = discarded(v)
        z = y.sin()
        discarded.discard(z)
        return z

    x = torch.randn(3, 4)
    if transform == "vmap":
        assert torch.equal(torch.func.vmap(run)(x), x.exp().sin())
    else:
        out, tangent = torch.func.jvp(run, (x,), (torch.ones_like(x),))
        assert torch.equal(out, x.exp().sin())
        assert torch.allclose(tangent, x.exp().cos() * x.exp())


class Pair(nn.Module):
    """A norm whose output a linear layer reads, wrapped where the module is made."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)
        self.normed = rt.discard_output(self.norm, consumer=self.linear)

    def forward(self, x):
        return self.linear(self.normed(x))


def pair_step(model, x):
    x = x.detach().requires_grad_()
    out = model(x)
    return torch.autograd.grad(out.square().sum(), [x, *model.parameters()])


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_module_is_copied_in_the_middle_of_a_step(way):
    model, x = Pair(), torch.randn(4, 8, requires_grad=True)
    y = model.normed(x)
    other = COPIES[way](model)
    with torch.no_grad():
        other.norm.weight.mul_(2)
    plain = nn.Sequential(other.norm, other.linear)
    assert same(pair_step(plain, x), pair_step(other, x))
    assert other.normed.freed_bytes == 128 and model.normed.freed_bytes == 0
    model.linear(y).sum().backward()
    assert model.normed.freed_bytes == 128


def test_two_calls_before_their_consumers():
    model, x = Pair(), torch.randn(4, 8, requires_grad=True)
    for order in ((0, 1), (1, 0)):
        read = [model.normed(x), model.normed(2 * x)]
        a, b = (model.linear(read[at]) for at in order)
        got = torch.autograd.grad((a * b.sin()).sum(), x)[0]
        read = [model.norm(x), model.norm(2 * x)]
        a, b = (model.linear(read[at]) for at in order)
        assert torch.equal(got, torch.autograd.grad((a * b.sin()).sum(), x)[0])
    assert model.normed.freed_bytes == 512 and model.normed.kept_bytes == 0


def test_calls_that_no_consumer_reads_are_let_go():
    model = Pair()
    weak = []
    for _ in range(3):
        y = model.normed(torch.randn(4, 8, requires_grad=True))
        weak.append(weakref.ref(y))
        y.sum().backward()
        del y
    assert [ref() is None for ref in weak] == [True, True, False]


@pytest.mark.parametrize("method", [False, True])
def test_each_thread_discards_what_it_has_made(method):
    class Owner:
        @rt.discard_output
        def act(self, v):
            return v.exp()

    act = Owner().act if method else rt.discard_output(torch.exp)
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(8, 8)
    y = act(x)
    freed = []

    def other():
        mine = act(x)
        freed.append(act.discard(mine @ w.clone().requires_grad_()))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    z = y @ w.clone().requires_grad_()
    freed.append(act.discard(z))
    assert freed == [128, 128]
    z.sum().backward()
    assert torch.equal(x.grad, torch.autograd.grad((x.exp() @ w).sum(), x)[0])
