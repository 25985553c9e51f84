# rcore/plan/__init__.py: from a model, a layout and a budget to what to keep, recompute and
# offload.
"""Planning without a framework.

::

    from rcore import plan
    report = plan.make_plan({"rcore_plan": 1, "model": "llama3-8b", "layout": {"seq_length": 8192},
                             "budget_fraction": 0.5})

Requests and reports are those of ``PLAN_JSON.md`` beside ``rcore.h``. The command line ``rcore``
reads models and settings in their usual spellings through :mod:`rcore.plan.models` and
:mod:`rcore.plan.megatron`. ``PLAN.md`` lists figures of widely copied guides that are wrong, and
what the inventory says instead.
"""

from __future__ import annotations

from rcore.plan.library import Policy, describe_inventory, evaluate, make_plan

__all__ = ["Policy", "describe_inventory", "evaluate", "make_plan"]
