# tests/conftest.py: one thread, one seed, and no region left behind by a test.
from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")

import rcore.torch  # noqa: E402


@pytest.fixture(autouse=True)
def _clean():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    gc.collect()
    assert rcore.torch.stats()["regions_live"] == 0, "a test left regions behind"
