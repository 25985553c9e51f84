# tests/test_checkpoint_state.py: generators, autocast, contexts, hooks, threads, and the rest of
# the module.
from __future__ import annotations

import contextlib
import gc
import threading
import warnings

import pytest
import torch
from torch import nn

import rcore.torch as rt
from regions import MODELS, Counter, assert_same, changing, grads_of, ours, plain, theirs, x4


# ---- side state


def test_random_numbers_are_those_of_the_forward_and_the_generator_goes_on():
    x = torch.ones(100, requires_grad=True)

    def run(call):
        torch.manual_seed(3)
        a = call(lambda v: nn.functional.dropout(v.exp(), 0.5), x)
        between = torch.rand(3)
        a.sum().backward()
        after = torch.rand(3)
        grad, x.grad = x.grad, None
        return [a.detach(), between, after, grad]

    assert_same(run(plain), run(ours))
    assert_same(run(theirs), run(ours))


def test_without_preserving_it_draws_anew():
    x = torch.ones(1000, requires_grad=True)
    out = ours(lambda v: nn.functional.dropout(v, 0.5).sin(), x, preserve_rng_state=False)
    out.sum().backward()
    assert not torch.equal(x.grad != 0, out != 0)


def test_a_draw_between_regions_is_seen():
    def run(call):
        torch.manual_seed(5)
        x = torch.ones(50, requires_grad=True)
        a = call(lambda v: nn.functional.dropout(v.exp(), 0.5), x)
        torch.rand(1)
        b = call(lambda v: nn.functional.dropout(v.exp(), 0.5), a)
        b.sum().backward()
        return [x.grad]

    assert_same(run(plain), run(ours))


def test_a_region_that_puts_the_generator_back_by_itself_draws_the_same_again():
    def masked(v):
        with torch.random.fork_rng(devices=[]):
            mask = torch.rand(50)
        return (v.sin() * mask).exp()

    def run(call):
        torch.manual_seed(5)
        x = torch.ones(50, requires_grad=True)
        out = call(masked, x)
        torch.rand(7)
        out.sum().backward()
        return [x.grad, torch.rand(3)]

    assert_same(run(plain), run(ours))
    assert_same(run(theirs), run(ours))


def test_a_backward_at_the_state_of_the_forward_leaves_the_generator_there():
    def run(call):
        torch.manual_seed(5)
        x = torch.ones(50, requires_grad=True)
        out = call(lambda v: nn.functional.dropout(v.exp(), 0.5), x)
        torch.manual_seed(5)
        out.sum().backward()
        return [x.grad, torch.rand(3)]

    assert_same(run(plain), run(ours))


@pytest.mark.parametrize("inside", [True, False])
def test_autocast_of_the_forward(inside):
    layer, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)

    def f(v):
        with torch.autocast("cpu", dtype=torch.bfloat16) if inside else contextlib.nullcontext():
            return layer(layer(v).relu()).float()

    def run(call):
        layer.weight.grad = x.grad = None
        with contextlib.nullcontext() if inside else torch.autocast("cpu", dtype=torch.bfloat16):
            out = call(f, x)
        out.sum().backward()
        return [layer.weight.grad, x.grad]

    assert_same(run(plain), run(ours))


def test_a_backward_inside_autocast_replays_without_it():
    layer, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)

    def run(call):
        layer.weight.grad = x.grad = None
        out = call(lambda v: layer(layer(v).relu()), x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out.sum().backward()
        return [layer.weight.grad, x.grad]

    assert_same(run(plain), run(ours))


def test_the_default_device_of_the_forward():
    seen = []

    def f(v):
        seen.append(torch.empty(1).device.type)
        return v.sin()

    x = x4()
    with torch.device("meta"):
        out = ours(f, x)
    out.sum().backward()
    assert seen == ["meta", "meta"]


def test_contexts_of_a_context_fn():
    log = []

    @contextlib.contextmanager
    def note(name):
        log.append(name)
        yield
        log.append("-" + name)

    x = x4()
    out = ours(lambda v: v.sin().cos(), x, context_fn=lambda: (note("forward"), note("replay")))
    assert log == ["forward", "-forward"]
    out.sum().backward()
    assert log[2] == "replay"


def test_a_context_that_swallows_the_forwards_error():
    def fail(v):
        raise KeyError

    with pytest.raises(RuntimeError, match="suppressed an exception"):
        ours(fail, x4(), context_fn=lambda:
             (contextlib.suppress(KeyError), contextlib.nullcontext()))


def test_selective_policies_save_what_they_say():
    from torch.utils.checkpoint import CheckpointPolicy

    counts = {}

    def policy(ctx, op, *args, **kwargs):
        is_mm = op == torch.ops.aten.mm.default
        return CheckpointPolicy.MUST_SAVE if is_mm else CheckpointPolicy.PREFER_RECOMPUTE

    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            counts[str(func)] = counts.get(str(func), 0) + 1
            return func(*args, **(kwargs or {}))

    w, x = torch.randn(4, 4, requires_grad=True), x4()
    f = lambda v: (v @ w).sin().exp()  # noqa: E731
    assert_same(
        grads_of(plain, f, [x], [w]),
        grads_of(
            lambda k, *a: ours(k, *a, context_fn=lambda: rt.create_selective_checkpoint_contexts(
                policy)), f, [x], [w]))
    out = ours(
        f, x, context_fn=lambda: rt.create_selective_checkpoint_contexts(
            [torch.ops.aten.mm.default])).sum()
    with Count():
        out.backward()
    assert counts["aten.sin.default"] == 1 and counts[
        "aten.mm.default"] == 2  # both of the backward, none of the replay


def test_hooks_of_the_user_around_a_region_see_its_inputs_only():
    packed = []
    x = x4()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(tuple(t.shape)) or t,
                                                  lambda t: t):
        out = ours(lambda v, u: (v.sin() * u).exp(), x, torch.ones(4, 4))
    assert packed == [(4, 4), (4, 4)]
    out.sum().backward()
    assert x.grad is not None


def test_offloading_hooks_take_keyword_tensors_too():
    packed = []
    x, y = x4(), x4()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        out = ours(lambda v, *, u: (v * u).exp(), x, u=y)
    assert len(packed) == 2
    out.sum().backward()



# ---- hooks, threads, groups


def test_hooks_fire_as_often_as_without():
    def count(call):
        fired = {"tensor": 0, "module": 0, "full": 0}
        layer = nn.Linear(4, 4)
        layer.register_forward_hook(lambda *a: fired.__setitem__("module", fired["module"] + 1))
        layer.register_full_backward_hook(lambda *a: fired.__setitem__("full", fired["full"] + 1))
        x = x4()
        x.register_hook(lambda g: fired.__setitem__("tensor", fired["tensor"] + 1))
        call(lambda v: layer(v).sin(), x).sum().backward()
        return fired

    assert count(theirs) == count(ours)
    assert count(ours)["tensor"] == count(plain)["tensor"] == 1
    assert count(ours)["full"] == count(plain)["full"] == 1


def test_backward_from_several_threads():
    x = torch.randn(64, requires_grad=True)
    want = torch.autograd.grad(x.sin().exp().sum(), x)[0]
    out = [ours(lambda v: v.sin().exp(), x).sum() for _ in range(6)]
    shared = ours(lambda v: v.sin().exp(), x).sum()
    got, errors = [], []

    def run(loss, retain):
        try:
            for _ in range(20 if retain else 1):
                got.append(torch.autograd.grad(loss, x, retain_graph=retain)[0])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(o, False)) for o in out]
    threads += [threading.Thread(target=run, args=(shared, True)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert len(got) == 86 and all(torch.equal(g, want) for g in got)
    del shared, out


def test_regions_begun_in_several_threads():
    results = []

    def work(seed):
        x = torch.full((8,), float(seed), requires_grad=True)
        for _ in range(20):
            x.grad = None
            ours(lambda v: ours(lambda u: u.sin(), v).exp(), x).sum().backward()
        results.append(torch.equal(x.grad, x.cos() * x.sin().exp()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 6


def test_one_replay_for_the_backwards_of_a_group():
    f = Counter(lambda v: (v.sin(), v.cos()))
    x = x4()
    a, b = ours(f, x)
    with rt.GraphExecGroup():
        a.sum().backward()
        b.sum().backward()
    assert f.calls == 2
    assert torch.equal(x.grad, x.cos() - x.sin())
    c = ours(lambda v: v.sin(), x)
    with rt.GraphExecGroup():
        c.sum().backward(retain_graph=True)
        with pytest.raises(rt.CheckpointError, match="Performing two backward calls that overlap"):
            c.sum().backward()


def test_a_chain_of_many_operators_is_freed_without_recursion():
    def f(v):
        for _ in range(20000):
            v = v + 0.0001 * v
        return v

    x = torch.ones(1, requires_grad=True)
    ours(f, x).sum().backward()
    assert x.grad is not None



# ---- the rest of the module


def test_use_reentrant_unset_warns_and_true_is_torchs():
    x = x4()
    with pytest.warns(UserWarning, match="use_reentrant parameter should be passed explicitly"):
        rt.checkpoint(lambda v: v.sin(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = rt.checkpoint(lambda v: v.sin(), x, use_reentrant=True)
    assert "CheckpointFunction" in type(out.grad_fn).__name__
    out.sum().backward()
    assert torch.equal(x.grad, x.cos())
    with pytest.raises(ValueError, match="only supported when use_reentrant=False"):
        rt.checkpoint(lambda v: v.sin(), x, use_reentrant=True, debug=True)


def test_decorator_form():
    @rt.checkpoint(use_reentrant=False, early_stop=False)
    def block(v, scale=1):
        """Doc."""
        return (v * scale).sin()

    x = x4()
    block(x, scale=2).sum().backward()
    assert block.__doc__ == "Doc." and torch.equal(x.grad, (x * 2).cos() * 2)


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_sequential(segments):
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(5)])
    x = x4()
    want = grads_of(plain, layers, [x], list(layers.parameters()))
    begun = rt.stats()["regions_begun"]

    def in_segments(function, value):
        return rt.checkpoint_sequential(function, segments, value, use_reentrant=False)

    got = grads_of(in_segments, layers, [x], list(layers.parameters()))
    assert_same(want, got)
    assert rt.stats()["regions_begun"] - begun == segments - 1
    with pytest.raises(ValueError, match="Unexpected keyword"):
        rt.checkpoint_sequential(layers, 2, x, use_reentrant=False, nonsense=1)


def test_no_leak_over_ten_thousand_regions():
    import resource

    layer, x = nn.Linear(32, 32), torch.randn(8, 32, requires_grad=True)

    def step():
        ours(lambda v: layer(nn.functional.dropout(v, 0.1)).relu(), x).sum().backward()

    for _ in range(500):
        step()
    gc.collect()
    objects, core, resident = len(gc.get_objects()), rt.stats(), resource.getrusage(
        resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10000):
        step()
    gc.collect()
    assert len(gc.get_objects()) - objects < 100
    assert rt.stats()["objects"] == core["objects"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 8192


def test_without_the_exchange_capsule_the_answers_are_the_same(monkeypatch):
    from rcore.torch import engine

    monkeypatch.setattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    assert engine.set_up() is False
    try:
        model, x = MODELS["dropout"](), x4()
        parameters = list(model.parameters())
        assert_same(grads_of(plain, model, [x], parameters), grads_of(ours, model, [x], parameters))
        out = ours(changing(lambda v: v.sin().cos(), lambda v: v.sin()[:2].cos()), x)
        with pytest.raises(rt.CheckpointError, match="different metadata"):
            out.sum().backward()
    finally:
        monkeypatch.undo()
        assert engine.set_up() is True


def test_a_module_in_the_place_of_one_without_buffers_is_watched_again():
    x = torch.randn(8, 4, requires_grad=True)

    def step(module):
        ours(lambda v: module(v), x).sum().backward()
        return module

    for _ in range(20):  # an address is soon used again
        step(nn.Linear(4, 4))
        assert step(nn.BatchNorm1d(4)).num_batches_tracked == 1
