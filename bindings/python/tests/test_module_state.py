# tests/test_module_state.py: parameters changed between the two runs of a region; buffers of
# modules that several threads train, that are scripted, traced, or without values.
from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn

import rcore.torch as rt
from regions import ours, theirs, x4

# ---- parameters


def in_a_scope(layer, x):
    with rt.discards():
        return rt.discard_output(layer)(x).exp()


def by_policy(layer, x):
    model = nn.Sequential(layer)
    rt.apply(model, rt.Policy.full(), {"0": "layer"})
    out = model(x)
    rt.remove(model)
    return out.exp()


PLACES = {
    "region": lambda layer, x: ours(lambda v: layer(v).exp(), x),
    "nested": lambda layer, x: ours(lambda v: ours(layer, v).exp(), x),
    "gradients inside": lambda layer, x: ours(
        lambda v: layer(v) + torch.autograd.grad(layer(v.sin()).exp().sum(), v,
                                                 create_graph=True)[0], x),
    "scope": in_a_scope,
    "policy": by_policy,
}


def step_in_place(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p.sub_(0.1)


CHANGES = {
    "step": step_in_place,
    "load_state_dict": lambda layer: layer.load_state_dict(
        {k: 2 * v for k, v in layer.state_dict().items()}),
}


TOLD = "was changed in place, or replaced, between the forward and its replay"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_parameter_changed_in_place_before_backward_is_told(place, change):
    layer, x = nn.Linear(4, 4), x4()
    out = PLACES[place](layer, x)
    CHANGES[change](layer)
    with pytest.warns(RuntimeWarning, match=TOLD):
        out.sum().backward()
    # What follows is as if nothing had been.
    x.grad = None
    layer.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PLACES[place](layer, x).sum().backward()
    got = [x.grad, *(p.grad for p in layer.parameters())]
    y = x.detach().requires_grad_()
    plain = {"gradients inside": lambda: layer(y) + torch.autograd.grad(
        layer(y.sin()).exp().sum(), y, create_graph=True)[0]}
    want = plain.get(place, lambda: layer(y).exp())()
    want = torch.autograd.grad(want.sum(), [y, *layer.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(got, want))


def test_a_program_that_changes_parameters_gets_what_torchs_checkpoint_gives():
    layer = nn.Linear(4, 4)
    found = []
    for checkpoint in (theirs, ours):
        torch.manual_seed(3)
        layer.load_state_dict({k: torch.randn_like(v) for k, v in layer.state_dict().items()})
        x = x4()
        out = checkpoint(lambda v: layer(v).exp(), x)
        step_in_place(layer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(torch.autograd.grad(out.sum(), [x, *layer.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*found))


class Clamps(nn.Module):
    """Keeps its weight in bounds in every forward, as constrained networks do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            self.layer.weight.clamp_(-0.1, 0.1)
        return self.layer(x).exp()


@pytest.mark.filterwarnings("ignore:rcore.torch. a parameter")
def test_weights_that_every_forward_clamps_are_right_and_verified_as_such():
    module, x = Clamps(), x4()
    want = torch.autograd.grad(module(x).sum(), [x, *module.parameters()])
    got = torch.autograd.grad(ours(module, x).sum(), [x, *module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(got, want))
    with warnings.catch_warnings(), rt.set_verify():
        warnings.simplefilter("error")
        ours(module, x).sum().backward()


def test_a_filter_makes_an_error_of_a_changed_parameter():
    layer, x = nn.Linear(4, 4), x4()
    out = ours(lambda v: layer(v).exp(), x)
    step_in_place(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match=TOLD):
            out.sum().backward()


def test_a_replay_without_the_weights_that_functional_call_lent_is_told():
    layer, x = nn.Linear(4, 4), x4()
    nn.init.normal_(layer.weight)
    lent = {"weight": torch.randn(4, 4, requires_grad=True)}
    region = nn.Module()
    region.layer = layer
    region.forward = lambda v: ours(lambda u: layer(u).exp(), v)
    out = torch.func.functional_call(region, {"layer.weight": lent["weight"]}, (x,))
    with pytest.warns(RuntimeWarning, match=TOLD):
        out.sum().backward()


@pytest.mark.parametrize("nested", [False, True])
def test_hooks_that_copy_a_parameter_among_the_inputs_change_nothing(nested):
    weight, x = nn.Parameter(torch.empty(4, 4).normal_()), x4()
    assert weight._version > 0  # a copy of it begins at 0

    def run(v, w):
        return (v @ w).sin() @ w.t()

    def outer(v, w):
        return ours(run, v, w) if nested else run(v, w)

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        out = ours(outer, x, weight)
    got = torch.autograd.grad(out.sum(), [x, weight])
    want = torch.autograd.grad(run(x, weight).sum(), [x, weight])
    assert all(torch.equal(a, b) for a, b in zip(got, want))


def test_the_check_of_parameters_goes_with_the_others():
    layer, x = nn.Linear(4, 4), x4()
    out = ours(lambda v: layer(v).exp(), x, determinism_check="none")
    step_in_place(layer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out.sum().backward()


# ---- buffers


class Waits(nn.Module):
    """A norm whose replay waits in the middle for what another thread does."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.waiting, self.go_on = threading.Event(), threading.Event()

    def forward(self, x, wait):
        x = self.norm(x)
        if wait and rt.is_replaying():
            self.waiting.set()
            assert self.go_on.wait(60)
        return self.norm(x).sin().exp()


@pytest.mark.parametrize("region", [True, False])
def test_what_another_thread_trains_during_a_replay_is_not_lost(region):
    module = Waits()
    twin = nn.BatchNorm1d(4)
    batches = [torch.randn(8, 4, requires_grad=True) for _ in range(3)]
    ours(module, batches[0], False).sum().backward()
    mine = torch.autograd.grad(ours(module, batches[1], False).sum(), batches[1])[0]
    module.norm.load_state_dict(twin.state_dict())
    errors = []

    def train():
        try:
            ours(module, batches[0], False).sum().backward()
            out = ours(module, batches[1], True)
            again = torch.autograd.grad(out.sum(), batches[1])[0]
            assert torch.equal(again, mine)
        except BaseException as error:
            errors.append(error)
            module.waiting.set()

    thread = threading.Thread(target=train)
    thread.start()
    assert module.waiting.wait(60)
    out = ours(module, batches[2], False) if region else module(batches[2], False)
    inside = [b.clone() for b in module.norm.buffers()]
    out.sum().backward()
    module.go_on.set()
    thread.join()
    assert not errors
    for batch in batches:
        twin(twin(batch))
    assert all(torch.equal(a, b) for a, b in zip(module.norm.buffers(), twin.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(inside, twin.buffers()))
    assert type(module.norm._buffers) is dict


class Replaces(nn.Module):
    """Takes its buffer away and registers another one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x):
        scale = self.scale + 1
        del self.scale
        assert not hasattr(self, "scale") and "scale" not in dict(self.named_buffers())
        self.register_buffer("scale", scale)
        return (x * scale).exp()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_buffer_that_is_registered_anew(threads):
    module, x = Replaces(), x4()

    def train():
        for _ in range(2):
            ours(module, x).sum().backward()

    for _ in range(threads):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert torch.equal(module.scale, torch.full((4,), 1.0 + 2 * threads))


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_scripted_module_with_buffers(early_stop):
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    scripted.load_state_dict(plain.state_dict())
    for _ in range(3):
        x = torch.randn(8, 4, requires_grad=True)
        (want,) = torch.autograd.grad(plain(x).exp().sum(), x)
        (got,) = torch.autograd.grad(ours(scripted, x, early_stop=early_stop).exp().sum(), x)
        assert torch.equal(want, got)
    for a, b in zip(plain.buffers(), scripted.buffers()):
        assert torch.equal(a, b)


def test_buffers_without_values():
    norm = nn.BatchNorm1d(4, device="meta")
    x = torch.randn(8, 4, device="meta", requires_grad=True)
    ours(norm, x).sum().backward()
    assert x.grad.shape == x.shape


def test_what_a_tracer_could_not_look_at_is_learned_later():
    from torch.fx.experimental.proxy_tensor import make_fx

    norm, x = nn.BatchNorm1d(4), torch.randn(8, 4)

    def gradient(v):
        v = v.detach().requires_grad_()
        return torch.autograd.grad(ours(norm, v).exp().sum(), v)[0]

    traced = make_fx(gradient)(x)
    norm.reset_running_stats()
    assert torch.equal(traced(x), gradient(x))
    exported = torch.export.export(Wrapped(norm), (x,))
    assert torch.equal(exported.module()(x), norm(x))
    norm.reset_running_stats()
    gradient(x)
    assert norm.num_batches_tracked.item() == 1


class Wrapped(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return ours(self.module, x)
