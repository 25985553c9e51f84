# tests/test_distributed.py: under DDP and FSDP2, two processes over gloo on the CPU, training has
# the bits of no policy.
from __future__ import annotations

import gc
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import rcore.torch as rt
from rcore.torch import Policy


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(8), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        x = x + self.attn(x)
        return x + self.mlp(self.norm(x))


POLICIES = {
    "layers": Policy.full("uniform", 1),
    "chunks": Policy.full("uniform", 2),
    "selective": Policy.selective("mlp", "layernorm")
}

def train(wrap, policy, rank):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block(), Block())
    if policy is not None:
        rt.apply(model, policy)
    wrapped = wrap(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    losses = []
    for step in range(3):
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(10 * step + rank))
        loss = wrapped(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    ran = rt.applied_to(model).stats()["replays"] if policy is not None else 0
    return losses, ran


class Narrow(Block):
    """Saves little beside its input, so that a chunk is worth it."""

    def forward(self, x):
        return x + self.attn(x).mul(2)


def saved_by_chunks(rank, n):
    model = nn.Sequential(*[Narrow() for _ in range(8)])
    rt.apply(model, Policy.full("uniform", n))
    wrapped = fsdp(model)
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(rank))
    wrapped(x)
    with rt.collect_regions() as regions, rt.watch(model) as watched:
        loss = wrapped(x).sum()
    del regions[:]
    held = watched.saved_peak
    loss.backward()
    return held


def ddp(model):
    return nn.parallel.DistributedDataParallel(model)


def fsdp(model):
    from torch.distributed.fsdp import fully_shard

    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


def worker(rank, port, wrap_name, queue):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.set_num_threads(1)
    wrap = {"ddp": ddp, "fsdp": fsdp}[wrap_name]
    results = {
        name: train(wrap, policy, rank) for name, policy in {"none": None, **POLICIES}.items()
    }
    refusals = []
    if wrap_name == "fsdp":
        results["saved"] = [saved_by_chunks(rank, n) for n in (1, 4)]
        layer = fsdp(nn.Sequential(Block()))[0]
        with rt.collect_regions() as regions:
            rt.checkpoint(layer, torch.randn(2, 8, requires_grad=True), use_reentrant=False)
        try:
            regions[0].replay()
        except rt.Error as error:
            refusals.append(str(error))
        regions.clear()
    if rank == 0:
        queue.put((results, refusals))
    # A model is part of a cycle, and DDP's reducer in it holds the group, whose threads must not
    # outlive the interpreter.
    gc.collect()
    dist.destroy_process_group()


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_training_has_the_same_losses(wrap):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    processes = mp.spawn(worker, (port, wrap, queue), nprocs=2, join=False)
    while not processes.join(timeout=120):
        pass
    results, refusals = queue.get()
    want = results["none"][0]
    assert want[0] > want[-1]
    for name in POLICIES:
        losses, replays = results[name]
        assert losses == want and replays >= 9, name
    if wrap == "fsdp":
        assert "which FSDP2 shards" in refusals[0]
        assert results["saved"][1] <= results["saved"][0] / 3  # two inputs, not eight
