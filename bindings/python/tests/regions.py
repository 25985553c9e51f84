# tests/regions.py: torch's checkpoint, ours and none, called alike; gradients from one seed.
from __future__ import annotations

import torch
import torch.utils.checkpoint as stock
from torch import nn

import rcore.torch as rt


def ours(function, *args, **kwargs):
    return rt.checkpoint(function, *args, use_reentrant=False, **kwargs)


def theirs(function, *args, **kwargs):
    return stock.checkpoint(function, *args, use_reentrant=False, **kwargs)


def plain(function, *args, **kwargs):
    return function(*args, **kwargs)


def grads_of(call, function, inputs, parameters=()):
    """Output and gradients of one run from the same seed."""
    torch.manual_seed(7)
    inputs = [i.detach().clone().requires_grad_(i.requires_grad) for i in inputs]
    for p in parameters:
        p.grad = None
    out = call(function, *inputs)
    out.sum().backward()
    of_inputs = [i.grad for i in inputs if i.requires_grad]
    return [out.detach()] + of_inputs + [p.grad.clone() for p in parameters if p.grad is not None]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert torch.equal(x, y)


class Counter:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


def x4(requires_grad=True):
    return torch.randn(4, 4, requires_grad=requires_grad)


class Mlp(nn.Module):
    def __init__(self, p=0.0):
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(4, 16), nn.Linear(16, 4), nn.Dropout(p)

    def forward(self, x):
        return self.drop(self.down(torch.nn.functional.gelu(self.up(x))))


MODELS = {
    "mlp": lambda: Mlp(),
    "dropout": lambda: Mlp(0.5),
    "sequential": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(
        4, 4)),
    "encoder": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True),
    "layernorm": lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)),
}


def changing(first, second):
    state = [0]

    def f(v):
        state[0] += 1
        return (first if state[0] == 1 else second)(v)

    return f
