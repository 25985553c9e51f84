# tests/test_devices.py: the generators of an accelerator's devices, on a stand-in for one: the
# module of a device is its generators, and which of them is current.
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

import rcore.torch as rt
from rcore.torch import engine, environment
from regions import assert_same, ours, plain


class Device:
    """What ``torch.cuda`` is to a region."""

    def __init__(self, generators: int) -> None:
        self.default_generators = tuple(torch.Generator() for _ in range(generators))
        self._initialized = True
        self.current = 0

    def current_device(self):
        return self.current

    def is_available(self):  # a torch that is built with CUDA asks where tensors are faked
        return False

    def noise(self, like, device=None):
        index = self.current if device is None else device
        return torch.rand(like.shape, generator=self.default_generators[index])


@pytest.fixture(params=[1, 3], ids=["one", "three"])
def device(request, monkeypatch):
    stand_in = Device(request.param)
    monkeypatch.setattr(environment, "_accelerator", lambda: "xpu")
    monkeypatch.setattr(torch, "get_device_module", lambda *_: stand_in)
    engine.set_up()
    yield stand_in
    monkeypatch.undo()
    engine.set_up()


def noisy(device, index=None):
    return lambda v: (v.exp() * device.noise(v, index)).sin()


def run(call, device, function):
    """Output, gradient, and what the generators draw between and after."""
    for at, generator in enumerate(device.default_generators):
        generator.manual_seed(at)
    torch.manual_seed(9)
    x = torch.linspace(0, 1, 40).requires_grad_()
    out = call(function, x)
    between = [device.noise(x, at).detach() for at in range(len(device.default_generators))]
    out.sum().backward()
    after = [device.noise(x, at).detach() for at in range(len(device.default_generators))]
    return [out.detach(), x.grad, *between, *after]


def test_a_replay_draws_from_the_device_what_the_forward_drew(device):
    assert_same(run(plain, device, noisy(device)), run(ours, device, noisy(device)))


def test_both_generators_at_once_and_nested_regions(device):
    def inner(v):
        return nn.functional.dropout(noisy(device)(v), 0.5) * device.noise(v)

    def outer(call):
        return lambda v: call(inner, v) + device.noise(v) * call(noisy(device), v)

    assert_same(run(plain, device, outer(plain)), run(ours, device, outer(ours)))


def test_the_current_device_is_the_one_that_is_kept(device):
    device.current = len(device.default_generators) - 1
    assert_same(run(plain, device, noisy(device)), run(ours, device, noisy(device)))


def test_a_generator_that_no_argument_names_is_left_alone(device):
    last = len(device.default_generators) - 1
    ours_, plain_ = run(ours, device, noisy(device, last)), run(plain, device, noisy(device, last))
    assert torch.equal(ours_[1], plain_[1]) == (last == device.current)


def test_the_devices_of_arguments_are_found_in_structures(device, monkeypatch):
    monkeypatch.setattr(environment, "_accelerator", lambda: "cuda")
    device.current = 5
    with FakeTensorMode():  # says that it is on a device without there being one
        there = torch.empty(2, device="cuda:1")
    assert environment.devices_of((1, [there]), {"a": {"b": torch.ones(1)}}) == [1, 5]
    assert environment.devices_of((), {"c": (there, there)}) == [1, 5]
    assert environment.devices_of((torch.ones(1),), None) == [5]


def test_without_preserving_the_device_draws_anew(device):
    def call(function, *args):
        return rt.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)

    want, got = run(plain, device, noisy(device)), run(call, device, noisy(device))
    assert not torch.equal(want[1], got[1])


def test_a_failing_replay_puts_the_generators_back(device):
    calls = []

    def function(v):
        calls.append(None)
        device.noise(v)
        if len(calls) > 1:
            raise ValueError("in the replay")
        return v.sin()

    x = torch.ones(3, requires_grad=True)
    out = ours(function, x)
    states = [g.get_state() for g in device.default_generators]
    with pytest.raises(ValueError, match="in the replay"):
        out.sum().backward()
    assert_same(states, [g.get_state() for g in device.default_generators])


def test_a_region_that_uses_the_devices_first_is_refused(device):
    device._initialized = False

    def function(v):
        device._initialized = True
        return v.sin()

    x = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="device state was initialized in the forward pass"):
        ours(function, x)
    device._initialized = False
    ours(torch.sin, x).sum().backward()  # a model of the CPU, on a machine with devices
    assert torch.equal(x.grad, torch.ones(3).cos())


def test_a_module_without_the_tuple_of_generators(device, monkeypatch):
    generator = torch.Generator()

    class OneDevice:  # as torch.mps
        get_rng_state = staticmethod(generator.get_state)
        set_rng_state = staticmethod(generator.set_state)

    monkeypatch.setattr(torch, "get_device_module", lambda *_: OneDevice)
    engine.set_up()

    def function(v):
        return v.exp() * torch.rand(v.shape, generator=generator)

    def of(call):
        generator.manual_seed(1)
        x = torch.ones(8, requires_grad=True)
        call(function, x).sum().backward()
        return [x.grad, generator.get_state()]

    assert_same(of(plain), of(ours))
