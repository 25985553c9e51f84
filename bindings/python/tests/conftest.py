# tests/conftest.py: tests of rcore.torch begin with one thread and one seed, and leave no region
# behind.
from __future__ import annotations

import gc
import importlib.util

import pytest

HAS_TORCH = importlib.util.find_spec("torch") is not None
collect_ignore_glob = [] if HAS_TORCH else ["test_*.py"]


@pytest.fixture(autouse=True)
def _clean(request):
    if not HAS_TORCH or request.node.path.parent.name == "plan":
        yield
        return
    import torch

    import rcore.torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    gc.collect()
    assert rcore.torch.stats()["regions_live"] == 0, "a test left regions behind"
