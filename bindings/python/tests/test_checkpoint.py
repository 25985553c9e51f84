# tests/test_checkpoint.py: what torch promises for its checkpoint, asked of ours; gradients bit for bit.
from __future__ import annotations

import contextlib
import gc
import threading
import warnings
import weakref

import pytest
import torch
import torch.utils.checkpoint as stock
from torch import nn

import rcore
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
    return [out.detach()] + [i.grad for i in inputs if i.requires_grad] + [p.grad.clone() for p in parameters if p.grad is not None]


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


# ---- gradients


class Mlp(nn.Module):
    def __init__(self, p=0.0):
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(4, 16), nn.Linear(16, 4), nn.Dropout(p)

    def forward(self, x):
        return self.drop(self.down(torch.nn.functional.gelu(self.up(x))))


MODELS = {
    "mlp": lambda: Mlp(),
    "dropout": lambda: Mlp(0.5),
    "sequential": lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 4)),
    "encoder": lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True),
    "layernorm": lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("early_stop", [True, False])
def test_gradients_have_the_bits_of_a_run_without_it(name, early_stop):
    model = MODELS[name]()
    x = torch.randn(2, 4, 4, requires_grad=True)
    want = grads_of(plain, model, [x], list(model.parameters()))
    got = grads_of(lambda f, *a: ours(f, *a, early_stop=early_stop), model, [x], list(model.parameters()))
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
            self.base, self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1, bias=False), nn.Linear(1, 4, bias=False)
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
        out = call(f, tensors[0], 2.5, Box(tensors[1]), pair=(tensors[2], {"y": tensors[3]}), flag=True, more={"k": 3})
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
        x = torch.randn(3, dtype=torch.double, generator=torch.Generator().manual_seed(1)).requires_grad_()
        (g,) = torch.autograd.grad(call(lambda v: (v.sin() * v).exp(), x).sum(), x, create_graph=True)
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
    assert_same(grads_of(plain, f, [x], list(layer.parameters())), grads_of(ours, f, [x], list(layer.parameters())))


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
            ctx.saved_tensors
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
            assert_same(grads_of(plain, function, [x]), grads_of(lambda k, *a: ours(k, *a, early_stop=stop), function, [x]))


def test_values_stored_by_side_effect_keep_their_graph():
    kept = []

    def f(v):
        kept.append(v.cos().sum())
        return v.sin()

    x = x4()
    out = ours(f, x)
    (out.sum() + kept[0]).backward()
    assert torch.equal(x.grad, x.cos() + -x.sin())


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
    assert_same(want, grads_of(lambda k, *a: ours(lambda v: stock.checkpoint(k, v, use_reentrant=True), *a), f, [x]))
    assert_same(want, grads_of(lambda k, *a: stock.checkpoint(lambda v: ours(k, v), *a, use_reentrant=True), f, [x]))


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


# ---- errors


def changing(first, second):
    state = [0]

    def f(v):
        state[0] += 1
        return (first if state[0] == 1 else second)(v)

    return f


ERRORS = [
    (lambda v: v.sin().cos().exp(), lambda v: v.sin(), {}, "A different number of tensors was saved"),
    (lambda v: v.sin(), lambda v: v.sin().cos().exp(), {"early_stop": False},
     "trying to save more tensors during recomputation"),
    (lambda v: v.sin().cos(), lambda v: v.sin()[:2].cos(), {},
     "Recomputed values for the following tensors have different metadata"),
    (lambda v: v.sin().cos(), lambda v: v.double().sin().cos(), {},
     "Recomputed values for the following tensors have different metadata"),
]


@pytest.mark.parametrize("first, second, options, phrase", ERRORS)
def test_errors_have_torchs_phrases_and_one_class(first, second, options, phrase):
    for call, kinds in ((theirs, (stock.CheckpointError,)), (ours, (rt.CheckpointError, stock.CheckpointError, rcore.Error))):
        x = x4()
        out = call(changing(first, second), x, **options)
        with pytest.raises(RuntimeError, match=phrase) as caught:
            out.sum().backward()
        assert isinstance(caught.value, kinds)
        assert all(isinstance(caught.value, kind) for kind in kinds)


def test_a_metadata_error_shows_both_and_the_position():
    x = x4()
    out = ours(changing(lambda v: v.sin().cos(), lambda v: v.sin()[:2].cos()), x)
    with pytest.raises(rt.CheckpointError, match=r"position 1:\nsaved metadata: \{'shape': \(4, 4\).*\nrecomputed metadata: "
                                                 r"\{'shape': torch.Size\(\[2, 4\]\)"):
        out.sum().backward()


def test_the_check_can_be_turned_off():
    x = x4()
    out = ours(changing(lambda v: v.sin(), lambda v: v.double().sin()), x, determinism_check="none")
    with contextlib.suppress(RuntimeError):  # autograd itself may refuse the other dtype, we do not
        out.sum().backward()
    with pytest.raises(ValueError, match="determinism_check should be one of"):
        ours(lambda v: v.sin(), x, determinism_check="nonsense")


def test_a_check_of_ones_own():
    x = x4()
    f = changing(lambda v: v.sin().cos(), lambda v: v.sin().add(1).cos())
    out = ours(f, x, determinism_check=lambda t: float(t.sum()))
    with pytest.raises(rt.CheckpointError, match="different metadata"):
        out.sum().backward()


def test_verify_names_module_and_operator():
    x = x4()
    good = ours(lambda v: (v.sin() * v).exp(), x, determinism_check="verify")
    good.sum().backward()
    out = ours(changing(lambda v: v.sin().cos().exp(), lambda v: v.sin().add(1e-6).cos().exp()), x, determinism_check="verify")
    with pytest.raises(rt.CheckpointError, match=r"(?s)module 'checkpoint'.*saved tensor 1, made by aten.sin.default") as caught:
        out.sum().backward()
    assert caught.value.status == "RC_E_MISMATCH"


def test_debug_lists_the_operators_of_both_runs():
    x = x4()
    f = changing(lambda v: v.sin().cos().exp(), lambda v: v.sin())
    out = ours(f, x, debug=True)
    with pytest.raises(rt.CheckpointError) as caught:
        out.sum().backward()
    text = str(caught.value)
    assert "Operations executed during the original forward:\n\naten.sin.default\naten.cos.default\naten.exp.default" in text
    assert "Operations executed during recomputation:\n\naten.sin.default\n" in text
    assert __file__ in text
    with pytest.raises(ValueError, match="incompatible with non-default context_fn"):
        ours(f, x, debug=True, context_fn=lambda: (contextlib.nullcontext(), contextlib.nullcontext()))
    with rt.set_checkpoint_debug_enabled(True):
        out = ours(changing(lambda v: v.sin().cos(), lambda v: v.sin()), x)
    with pytest.raises(rt.CheckpointError, match="Operations executed"):
        out.sum().backward()


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
        ours(fail, x4(), context_fn=lambda: (contextlib.suppress(KeyError), contextlib.nullcontext()))


def test_selective_policies_save_what_they_say():
    from torch.utils.checkpoint import CheckpointPolicy

    counts = {}

    def policy(ctx, op, *args, **kwargs):
        return CheckpointPolicy.MUST_SAVE if op == torch.ops.aten.mm.default else CheckpointPolicy.PREFER_RECOMPUTE

    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            counts[str(func)] = counts.get(str(func), 0) + 1
            return func(*args, **(kwargs or {}))

    w, x = torch.randn(4, 4, requires_grad=True), x4()
    f = lambda v: (v @ w).sin().exp()  # noqa: E731
    assert_same(grads_of(plain, f, [x], [w]), grads_of(
        lambda k, *a: ours(k, *a, context_fn=lambda: rt.create_selective_checkpoint_contexts(policy)), f, [x], [w]))
    out = ours(f, x, context_fn=lambda: rt.create_selective_checkpoint_contexts([torch.ops.aten.mm.default])).sum()
    with Count():
        out.backward()
    assert counts["aten.sin.default"] == 1 and counts["aten.mm.default"] == 2  # both of the backward, none of the replay


def test_hooks_of_the_user_around_a_region_see_its_inputs_only():
    packed = []
    x = x4()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(tuple(t.shape)) or t, lambda t: t):
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
        except Exception as error:  # noqa: BLE001
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
    got = grads_of(lambda f, v: rt.checkpoint_sequential(f, segments, v, use_reentrant=False), layers, [x], list(layers.parameters()))
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
    objects, core, resident = len(gc.get_objects()), rt.stats(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10000):
        step()
    gc.collect()
    assert len(gc.get_objects()) - objects < 100
    assert rt.stats()["objects"] == core["objects"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 8192


def test_without_the_exchange_capsule_the_answers_are_the_same(monkeypatch):
    from rcore.torch import engine

    monkeypatch.setattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    assert engine._setup() is False
    try:
        model, x = MODELS["dropout"](), x4()
        assert_same(grads_of(plain, model, [x], list(model.parameters())), grads_of(ours, model, [x], list(model.parameters())))
        out = ours(changing(lambda v: v.sin().cos(), lambda v: v.sin()[:2].cos()), x)
        with pytest.raises(rt.CheckpointError, match="different metadata"):
            out.sum().backward()
    finally:
        monkeypatch.undo()
        assert engine._setup() is True
