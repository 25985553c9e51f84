# rcore/plan/__init__.py: from a model, a layout and a budget to what to keep, recompute and offload.
"""Planning without a framework.

::

    from rcore import plan
    report = plan.make_plan({"rcore_plan": 1, "model": "llama3-8b", "layout": {"seq_length": 8192},
                             "budget_fraction": 0.5})

Requests and reports are those of ``PLAN_JSON.md`` beside ``rcore.h``. The command line ``rcore`` reads models and
settings in their usual spellings through :mod:`rcore.plan.models` and :mod:`rcore.plan.megatron`.

Figures in guides that are widely copied, and what the inventory says instead:

=========================================================  ==============================================================
statement                                                  right
=========================================================  ==============================================================
"(9 + 4a/h) bsh bytes per layer"                           (34 + 5as/h) sbh: 2.87 GB for GPT-3 at b = 1, not 0.23
"GPT-3 175B takes 850 GB, 1.7 TB with gradients"           275 GB; activation gradients are transient
"full recompute of GPT-3 70B at b = 8 leaves 150 GB"       21.5 GB of inputs and 15 GB for the layer in backward
"core_attn costs 20 to 25 %"                               2 to 7 % measured; nothing is freed where attention is fused
"full costs 40 to 50 %" or "20 to 25 %"                    36 to 39 % measured with the last GEMM; the floor is 25 %
"uniform with N = 4 saves 75 % and recomputes less"        the same recomputation, and a live buffer of four layers
"32K tokens take 16 times the attention memory of 2K"      256 times unfused, 16 times (linear) fused
"layernorm saves a negligible amount"                      11.8 % of a Llama layer; a no-op where norms are fused
"distribution splits the sequence"                         a flat 1/t of the saved input; useless with sequence parallel
=========================================================  ==============================================================
"""
from __future__ import annotations

from rcore.plan.library import Policy, describe_inventory, evaluate, make_plan

__all__ = ["Policy", "describe_inventory", "evaluate", "make_plan"]
