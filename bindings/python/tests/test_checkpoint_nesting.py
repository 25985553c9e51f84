# tests/test_checkpoint_nesting.py: torch's counts in nests, early stop, and what is freed when.
from __future__ import annotations

import weakref

import pytest
import torch
import torch.utils.checkpoint as stock

import rcore.torch as rt
from regions import Counter, assert_same, grads_of, ours, plain, theirs, x4


# ---- nesting


def nest(call, function, depth):
    for _ in range(depth):
        inner = function
        function = lambda *a, f=inner: call(f, *a)  # noqa: E731
    return function


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_nesting_has_torchs_counts_and_the_same_bits(depth):
    counts = []
    results = []
    for call in (plain, theirs, ours):
        f = Counter(lambda v: v.sin().exp().cos())
        x = torch.linspace(-1, 1, 12).requires_grad_()
        nest(call, f, depth)(x).sum().backward()
        counts.append(f.calls)
        results.append([x.grad])
    assert counts[1] == counts[2]
    assert_same(results[0], results[2])


def test_nested_regions_among_other_work_count_as_torchs():
    def build(call, a, b, c):
        return lambda v: call(lambda u: call(c, call(b, a(u)).tanh()).sin() * u, v)

    counts, results = [], []
    for call in (plain, theirs, ours):
        fs = [Counter(torch.sin), Counter(lambda v: v.exp().cos()), Counter(lambda v: v.cos() * v)]
        x = torch.linspace(-1, 1, 12).requires_grad_()
        y = build(call, *fs)(x)
        y.sum().backward(retain_graph=True)
        y.sum().backward()
        counts.append([f.calls for f in fs])
        results.append([x.grad])
    assert counts[1] == counts[2]
    assert_same(results[0], results[2])


def test_two_children_and_keywords_in_a_nest():
    def f(a, b, *, c):
        inner = ours(lambda u, *, w: (u * w).sin(), a, w=c)
        other = ours(lambda u: (u * b).exp(), inner)
        return inner * other

    x, y, z = x4(), x4(), x4()
    want = grads_of(lambda k, a, b, c: k(a, b, c=c), f, [x, y, z])
    got = grads_of(lambda k, a, b, c: ours(k, a, b, c=c), f, [x, y, z])
    assert_same(want, got)


def test_reentrant_inside_and_around():
    f = lambda v: v.sin().exp()  # noqa: E731
    x = x4()
    want = grads_of(plain, f, [x])
    assert_same(
        want,
        grads_of(lambda k, *a: ours(lambda v: stock.checkpoint(k, v, use_reentrant=True), *a), f,
                 [x]))
    assert_same(
        want,
        grads_of(lambda k, *a: stock.checkpoint(lambda v: ours(k, v), *a, use_reentrant=True), f,
                 [x]))



# ---- early stop


def count_tail(call, **kwargs):
    """How often a function runs whose result nothing of the backward needs."""
    tail = Counter(lambda v: v.clone())
    x = x4()
    call(lambda v: tail(v.sin().cos()), x, **kwargs).sum().backward()
    return tail.calls


def test_what_follows_the_last_saved_tensor_does_not_run_again():
    assert count_tail(theirs) == count_tail(ours) == 1
    assert count_tail(theirs, early_stop=False) == count_tail(ours, early_stop=False) == 2


def test_not_even_a_line_of_python():
    ran = []

    def f(v):
        y = v.sin()
        ran.append(1)
        return y

    x = x4()
    ours(f, x).sum().backward()
    assert len(ran) == 1


@pytest.mark.parametrize("tail", [0, 1, 3])
def test_a_loop_is_left_where_torch_leaves_it(tail):
    def count(call):
        fs = [Counter(torch.sin), Counter(torch.exp)] + [Counter(lambda v: v) for _ in range(tail)]

        def f(v):
            for g in fs:
                v = g(v)
            return v

        x = x4()
        call(f, x).sum().backward()
        return [g.calls for g in fs]

    assert count(theirs) == count(ours)


def test_the_switch_for_early_stop_overrides_the_argument():
    with rt.set_checkpoint_early_stop(False):
        assert count_tail(ours) == 2
    with rt.set_checkpoint_early_stop(True):
        assert count_tail(ours, early_stop=False) == 1
    assert count_tail(ours) == 1


def test_a_dispatch_mode_sees_no_operator_behind_the_last_save():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Log(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    logs = []
    for call in (theirs, ours):
        x = x4()
        out = call(lambda v: v.sin().cos(), x).sum()
        with Log() as log:
            out.backward()
        logs.append([n for n in log.names if n != "detach"])
    assert logs[0] == logs[1]


def test_early_stop_leaves_no_memory_behind():
    class Hold(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x.exp()
            alive.append(weakref.ref(out))
            ctx.save_for_backward(out)
            return out.clone()

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0]

    alive: list = []
    x = x4()
    out = ours(lambda v: Hold.apply(v).clone(), x)
    out.sum().backward()
    del out
    assert all(ref() is None for ref in alive)



# ---- memory


def test_the_forward_keeps_nothing_but_its_input():
    refs: list = []

    def g(v):
        for _ in range(4):
            v = torch.sin(v)
            refs.append(weakref.ref(v))
        return v.sum()

    x = torch.randn(1000, requires_grad=True)
    out = ours(g, x)
    assert [r() is not None for r in refs] == [False] * 4
    out.backward()
    assert [r() is not None for r in refs] == [False] * len(refs)


def test_values_go_as_each_backward_step_passes():
    refs: list = []
    alive: list = []

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            alive.append(sum(r() is not None for r in refs))
            return g

    def f(v):
        refs.clear()
        for _ in range(4):
            v = Probe.apply(v)
            v = v.exp()
            refs.append(weakref.ref(v))
        return v

    ours(f, torch.randn(10, requires_grad=True)).sum().backward()
    assert alive == [3, 2, 1, 0]


def test_a_region_without_backward_is_freed():
    x = torch.randn(1000, requires_grad=True)
    y = x * 1
    ref = weakref.ref(y)
    out = ours(lambda v: v.sin().exp(), y)
    del y
    assert ref() is not None
    del out
    assert ref() is None


def test_a_failing_forward_leaves_torch_as_it_was():
    def f(v):
        v.sin()
        raise KeyError("mine")

    x = x4()
    with pytest.raises(KeyError, match="mine"):
        ours(f, x)
    y = x.sin().exp()
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    y.sum().backward()


def test_a_failing_replay_reports_its_own_error_and_can_be_tried_again():
    fail = [False]

    def f(v):
        y = v.sin()
        if fail[0]:
            raise KeyError("mine")
        return y.exp()

    x = x4()
    out = ours(f, x)
    fail[0] = True
    state = torch.get_rng_state()
    with pytest.raises(KeyError, match="mine"):
        out.sum().backward(retain_graph=True)
    assert torch.equal(state, torch.get_rng_state()) and torch.is_grad_enabled()
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    fail[0] = False
    x.grad = None
    out.sum().backward()
    assert torch.equal(x.grad, x.cos() * x.sin().exp())


@pytest.mark.parametrize("call", [ours, theirs])
def test_a_mode_of_a_context_fn_sees_what_it_sees_of_torchs_own(call):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    seen = []
    x = torch.ones(2, requires_grad=True)
    out = call(lambda v: v.exp(), x, context_fn=lambda: (Log(), Log()))
    assert seen == ["exp.default"]
    out.sum().backward()
    assert seen == ["exp.default", "exp.default", "detach.default"]


@pytest.mark.parametrize("saved_before", [False, True])
def test_a_region_that_changes_its_input_in_place_is_an_error_inside_a_region_too(saved_before):
    """torch's own checkpoint gives a wrong gradient here: its outer replay keeps no versions."""

    def inner(t):
        t.mul_(3.0)
        return t.cos()

    def outer(x):
        t = x * 2
        y = t.sin() if saved_before else t * 5
        return (y + rt.checkpoint(inner, t, use_reentrant=False)).exp()

    x = torch.randn(4, requires_grad=True)
    out = rt.checkpoint(outer, x, use_reentrant=False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
    # The engine keeps the nodes that were ready when a backward failed, until the next one.
    torch.ones(1, requires_grad=True).sum().backward()


@pytest.mark.parametrize("of", [0, 1, 2])
@pytest.mark.parametrize("hooks", [False, True])
def test_gradients_inside_a_nested_region_that_changes_its_input(of, hooks):
    """torch's own checkpoint gives wrong ones for the last: its replay changes the input again."""

    def inner(*inputs):
        inputs[2].mul_(1.5)
        leaf = inputs[of].detach().requires_grad_()
        (inside,) = torch.autograd.grad(leaf.sin().sum(), leaf)
        return inputs[of] + inside

    def outer(call):
        def f(v):
            a = v * 2 + 1
            c = call(inner, v, a, torch.nn.functional.dropout(a, 0.3))
            return call(lambda p, q: (p * q).sin(), c, a)

        return f

    def around(call, v):
        if not hooks:
            return call(outer(call), v * 1.5)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
            return call(outer(call), v * 1.5)

    x = torch.randn(4, 6, requires_grad=True)
    assert_same(grads_of(plain, lambda v: around(plain, v), [x]),
                grads_of(plain, lambda v: around(ours, v), [x]))


def test_a_weight_changed_between_two_backwards_through_one_replay_is_an_error():
    w, x = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)

    def backward_twice(call):
        out = call(lambda v: (v * w).exp().sin(), x)
        (g,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        with torch.no_grad():
            w.mul_(2.0)
        g.sum().backward()

    for call in (plain, ours):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            backward_twice(call)


@pytest.mark.parametrize(
    "call", [lambda f, *a: f(*a, k=a[0]), lambda f, *a: f(a[1], a[0], k=a[0])])
def test_one_tensor_in_several_inputs_is_one_in_a_replay_too(call):
    """nn.MultiheadAttention asks, and saves other tensors where it is not."""
    seen = []

    def inner(a, b, *, k):
        seen.append((a is b, a is k, b is k))
        return (a * b * k).exp()

    def outer(v):
        v, w = v.sin(), v.cos()
        return call(lambda *a, **k: ours(inner, *a, **k), v, w) + call(
            lambda a, b, k: ours(inner, b, b, k=b), v, w)

    x = x4()
    ours(outer, x).sum().backward()
    first, second = seen[:2]
    assert first != second and sorted(seen[2:]) == sorted([first, first, second])
