# tests/test_cuda.py: regions on a GPU: the bits and the memory of torch's checkpoint, dropout on.
from __future__ import annotations

import os

import pytest
import torch
from torch import nn

import rcore.torch as rt
from models import llama
from rcore.torch import Policy
from regions import assert_same, ours, plain, theirs

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

MIB = 2**20


@pytest.fixture(autouse=True)
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def block(width=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.3),
                         nn.Linear(4 * width, width), nn.LayerNorm(width)).cuda()


def step(call, function, x, parameters=()):
    """Output, gradients, and the generators' next draws."""
    torch.manual_seed(5)
    x = x.detach().clone().requires_grad_()
    for p in parameters:
        p.grad = None
    out = call(function, x)
    out.float().sum().backward()
    return [out.detach(), x.grad, *(p.grad.clone() for p in parameters),
            torch.rand(3, device="cuda"), torch.rand(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_as_without_and_as_torch(dtype):
    model = block().to(dtype)
    x = torch.randn(128, 64, device="cuda", dtype=dtype)
    want = step(plain, model, x, list(model.parameters()))
    assert_same(want, step(ours, model, x, list(model.parameters())))
    assert_same(want, step(theirs, model, x, list(model.parameters())))


def test_autocast():
    model, x = block(), torch.randn(128, 64, device="cuda")

    def under(call):
        def run(function, v):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                return call(function, v)

        return step(run, model, x, list(model.parameters()))

    assert_same(under(plain), under(ours))


def test_nested_regions_and_draws_of_both_devices():
    model, x = block(), torch.randn(32, 64, device="cuda")

    def outer(call):
        def run(v):
            noise = torch.rand(v.shape).to(v.device)  # the CPU's generator
            return call(model, v * noise) + torch.rand_like(v) * v.sin()

        return run

    assert_same(step(plain, outer(plain), x), step(ours, outer(ours), x))


def test_another_stream():
    model, x = block(), torch.randn(256, 64, device="cuda")
    want = step(plain, model, x, list(model.parameters()))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = step(ours, model, x, list(model.parameters()))
    torch.cuda.current_stream().wait_stream(stream)
    assert_same(want, got)


def products(call, model, x):
    """How many matrix products one step runs on the device."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        step(call, model, x, list(model.parameters()))
        torch.cuda.synchronize()
    return sum(e.count for e in profiler.key_averages()
               if e.key in ("aten::addmm", "aten::mm", "aten::addmm_"))


def test_early_stop_leaves_out_the_last_product():
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)).cuda()
    x = torch.randn(128, 64, device="cuda")
    without = products(plain, model, x)
    assert products(ours, model, x) == products(theirs, model, x) == without + 1


def peak_of(call, model, x):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = x
    for _ in range(8):
        out = call(model, out)
    out.sum().backward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def test_a_stack_of_regions_peaks_no_higher_than_torchs():
    model, x = block(256), torch.randn(4096, 256, device="cuda", requires_grad=True)
    for call in (ours, theirs, plain):
        peak_of(call, model, x)  # workspaces and gradients are there from now on
    ours_, theirs_, without = (peak_of(c, model, x) for c in (ours, theirs, plain))
    assert ours_ <= theirs_ + MIB / 4 and ours_ < without / 2


def test_ten_thousand_regions_leave_nothing():
    model, x = nn.Linear(8, 8).cuda(), torch.randn(4, 8, device="cuda", requires_grad=True)
    ours(model, x).sum().backward()
    before = torch.cuda.memory_allocated()
    for _ in range(10_000):
        ours(model, x).sum().backward()
    assert torch.cuda.memory_allocated() == before


def train(policy, steps=3, **more):
    """Losses and the last gradients of a small Llama under a policy."""
    torch.manual_seed(1)
    model = llama(**more).cuda().to(torch.bfloat16).train()
    ids = torch.randint(64, (2, 64), device="cuda")
    losses = []
    if policy is not None:
        rt.apply(model, policy)
    for at in range(steps):
        torch.manual_seed(at)
        model.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.detach())
    if policy is not None:
        rt.remove(model)
    return [*losses, *(p.grad for p in model.parameters())]


POLICIES = {
    "each layer": Policy.full("uniform", 1),
    "chunks of 2": Policy.full("uniform", 2),
    "first half": Policy.full("block", 2),
    "core_attn": Policy.selective("core_attn"),
    "mlp": Policy.selective("mlp"),
    "layernorm": Policy.selective("layernorm"),
    "three": Policy.selective("core_attn", "layernorm", "mlp"),
    "budget": Policy.budget(0.5),
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", list(POLICIES))
def test_a_model_under_each_policy(name, attention):
    settings = {"attn_implementation": attention, "attention_dropout": 0.1}
    assert_same(train(None, **settings), train(POLICIES[name], **settings))


def test_a_discarded_output_gives_its_memory_back():
    torch.manual_seed(0)
    norm, up = nn.LayerNorm(1024).cuda(), nn.Linear(1024, 1024).cuda()
    x = torch.randn(4096, 1024, device="cuda", requires_grad=True)
    want = step(plain, lambda v: up(norm(v)), x)

    def discarding(v):
        with rt.discards():
            return up(rt.discard_output(norm)(v))

    assert_same(want, step(plain, discarding, x))
    before = torch.cuda.memory_allocated()
    out = discarding(x)
    kept = torch.cuda.memory_allocated() - before
    assert kept < 1.5 * 4096 * 1024 * 4  # the product alone; not the norm's output
    out.sum().backward()


def test_a_recorded_choice_on_the_device():
    flips = []

    def route(v):
        scores = v if not rt.is_replaying() else v.flip(-1)  # a replay that would choose otherwise
        choice = rt.record(scores.detach().argmax(-1))
        flips.append(choice.clone())
        return (v.exp() * nn.functional.one_hot(choice, 4)).sin()

    x = torch.randn(32, 4, device="cuda", requires_grad=True)
    ours(route, x).sum().backward()
    assert torch.equal(flips[0], flips[1])


def test_values_are_verified():
    calls = []

    def function(v):
        calls.append(None)
        return (v * len(calls)).sin()

    x = torch.ones(8, device="cuda", requires_grad=True)
    with rt.set_verify():
        out = ours(function, x)
    with pytest.raises(rt.CheckpointError, match="other values"):
        out.sum().backward()


def test_replay_ahead_of_backward():
    model, x = block(), torch.randn(64, 64, device="cuda", requires_grad=True)
    with rt.collect_regions() as regions:
        out = ours(model, x)
    regions[0].replay()
    assert regions[0].ready
    weights = list(model.parameters())
    dw = torch.autograd.grad(out.sum(), weights, retain_graph=True)
    dx, = torch.autograd.grad(out.sum(), x)
    assert regions[0].info()["replays"] == 1 and len(dw) == len(weights) and dx.shape == x.shape
