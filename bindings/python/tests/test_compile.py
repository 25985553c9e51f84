# tests/test_compile.py: under torch.compile the compiler recomputes; compiled children keep their
# place in regions.
from __future__ import annotations

import pytest
import torch
from torch import nn

import rcore.torch as rt
from rcore.torch import Policy

from test_distributed import Block


def step(model, x):
    model.zero_grad()
    model(x).square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.fixture
def counter():
    """A backend that counts the graphs it is given and runs them as they are."""
    import torch._dynamo

    torch._dynamo.reset()
    graphs: list[str] = []

    def backend(graph, inputs):
        graphs.append(graph.code)
        return graph.forward

    backend.graphs = graphs
    yield backend
    torch._dynamo.reset()


def test_a_checkpoint_inside_a_compiled_function_is_one_graph(counter):
    layer, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)

    def f(v):
        return rt.checkpoint(lambda u: layer(u).relu().sin(), v, use_reentrant=False).sum()

    compiled = torch.compile(f, backend=counter, fullgraph=True)
    for _ in range(3):
        x.grad = None
        compiled(x).backward()
    want = torch.autograd.grad(layer(x).relu().sin().sum(), x)[0]
    assert torch.allclose(x.grad, want)
    assert len(counter.graphs) == 1 and "tag_activation_checkpoint" in counter.graphs[0]


@pytest.mark.parametrize("options", [{}, {"context_fn": "mm"}])
def test_a_backend_that_traces_backward_takes_it(options):
    layer, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)
    if options:
        mm = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default]
        options = {"context_fn": lambda: rt.create_selective_checkpoint_contexts(mm)}

    def f(v):
        return rt.checkpoint(lambda u: layer(u).relu().sin(), v, use_reentrant=False,
                             **options).sum()

    torch._dynamo.reset()
    got = torch.autograd.grad(torch.compile(f, backend="aot_eager", fullgraph=True)(x), x)[0]
    assert torch.allclose(got, torch.autograd.grad(layer(x).relu().sin().sum(), x)[0])
    torch._dynamo.reset()


def regions_in(graphs):
    return sum(graph.count("torch.ops.higher_order.tag_activation_checkpoint(") for graph in graphs)


@pytest.mark.parametrize("policy, regions", [(Policy.none(), 0), (Policy.full(), 2),
                                             (Policy.full("uniform", 2), 2),
                                             (Policy.full("block", 1), 1),
                                             (Policy.selective("mlp", "layernorm"), 2)])
def test_the_compiler_is_given_the_policys_regions(counter, policy, regions):
    model, x = nn.Sequential(Block(), Block()), torch.randn(4, 8)
    want = step(model, x)
    with rt.apply(model, policy):
        got = step(torch.compile(model, backend=counter, fullgraph=True), x)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(want, got))
    assert regions_in(counter.graphs) == regions


@pytest.mark.parametrize("policy", [Policy.full(), Policy.selective("mlp", "layernorm")])
def test_a_model_compiles_with_a_policy_and_without_in_the_same_number_of_graphs(counter, policy):
    model, x = nn.Sequential(Block(), Block()), torch.randn(4, 8)
    want = step(model, x)
    compiled = torch.compile(model, backend=counter)
    for _ in range(3):
        step(compiled, x)
    without = len(counter.graphs)
    torch._dynamo.reset()
    counter.graphs.clear()
    with rt.apply(model, policy):
        for _ in range(3):
            got = step(torch.compile(model, backend=counter), x)
    assert len(counter.graphs) <= without
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(want, got))


def test_a_compiled_child_runs_inside_an_eager_region(counter):
    model, x = nn.Sequential(Block(), Block()), torch.randn(4, 8, requires_grad=True)
    want = step(model, x)
    for block in model:
        block.mlp = torch.compile(block.mlp, backend=counter)
    for _ in range(3):
        model.zero_grad()
        y = x
        for block in model:
            y = rt.checkpoint(block, y, use_reentrant=False)
        y.square().sum().backward()
    got = [p.grad for p in model.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(want, got))
    assert len(counter.graphs) <= 2


def test_a_plan_that_a_budget_made_is_what_compiles_and_without_one_a_warning_says_so(counter):
    torch.manual_seed(0)
    model, x = nn.Sequential(*[Block() for _ in range(4)]), torch.randn(4, 8)
    want = step(model, x)

    def recomputed():
        counter.graphs.clear()
        torch._dynamo.reset()
        got = step(torch.compile(model, backend=counter), x)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(want, got))
        return regions_in(counter.graphs)

    with rt.apply(model, Policy.budget(0.6)) as applied:
        with pytest.warns(RuntimeWarning, match="recomputes every layer"):
            everything = recomputed()
        assert everything == 4
        step(model, x)
        planned = recomputed()
        asked = [
            p for p, m in applied.modules if m.recomputes and (p.kind == "layer" or not m.discards)
        ]
        layers = [m.recomputes for p, m in applied.modules if p.kind == "layer"]
    assert planned == len(asked) > 0 and not all(layers)


def test_put_in_the_place_of_torchs_own_it_is_still_a_region_of_the_graph(monkeypatch):
    from torch._dynamo.testing import EagerAndRecordGraphs

    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", rt.checkpoint)
    linear, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)

    def run(v):
        return torch.utils.checkpoint.checkpoint(lambda u: linear(u).sin().exp(), v,
                                                 use_reentrant=False)

    backend = EagerAndRecordGraphs()
    torch.compile(run, backend=backend, fullgraph=True)(x).sum().backward()
    assert len(backend.graphs) == 1
    assert any("checkpoint" in str(n.target) for n in backend.graphs[0].graph.nodes)


def test_a_policy_on_another_model_compiles_nothing_again(counter):
    pytest.importorskip("transformers")
    from models import llama

    model, ids = llama(attention_dropout=0.0), torch.randint(0, 64, (2, 6))
    others = [llama(), llama()]
    rt.apply(others[0], Policy.selective("core_attn"))
    with rt.apply(model, Policy.selective("core_attn")):
        compiled = torch.compile(model, backend=counter, fullgraph=True)
        want = compiled(input_ids=ids, labels=ids).loss
        assert len(counter.graphs) == 1 and regions_in(counter.graphs) == 4
        rt.remove(others[0])
        rt.apply(others[1], Policy.selective("core_attn", "mlp"))
        assert torch.equal(compiled(input_ids=ids, labels=ids).loss, want)
        del others[0]
        assert torch.equal(compiled(input_ids=ids, labels=ids).loss, want)
        assert len(counter.graphs) == 1
    rt.remove(others[0])
