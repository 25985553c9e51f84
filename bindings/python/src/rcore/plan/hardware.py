# rcore/plan/hardware.py: this processor as a device profile, measured.
"""Rates for the member ``hardware`` of a request."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rcore.plan.errors import InputError

__all__ = ["measure_processor"]


def _rate(amount: float, run: Callable[[], Any], rounds: int = 5) -> float:
    """Amount per second of the best round: others may share the machine."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return amount / best


def measure_processor(size: int = 768, copy_bytes: int = 1 << 27) -> dict[str, Any]:
    """GEMM and copy rates in 32 bits with all threads, in about half a second. There is no link
    to a host."""
    try:
        import numpy
    except ImportError:
        raise InputError("--hardware cpu: measuring needs numpy") from None
    a = numpy.ones((size, size), numpy.float32)
    source = numpy.ones(copy_bytes // 4, numpy.float32)
    target = numpy.empty_like(source)
    gemm = _rate(2.0 * size**3, lambda: a @ a)
    stream = _rate(2.0 * copy_bytes, lambda: numpy.copyto(target, source))
    return {
        "name": "this processor",
        "gemm_flops": gemm,
        "gemm_share": 1.0,
        "attention_share": 0.5,
        "hbm_rate": stream,
        "hbm_share": 1.0,
        "host_rate": 0.0,
        "tp_rate": stream,
        "ep_rate": stream,
    }
