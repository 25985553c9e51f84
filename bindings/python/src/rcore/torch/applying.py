# rcore/torch/applying.py: puts a policy on a model, or regions behind its own switch.
"""apply()."""
from __future__ import annotations

import functools
import warnings
from typing import Any

from torch import nn

from rcore.torch import checkpointing
from rcore.torch.applied import Applied, put_on, remove
from rcore.torch.budgeted import Budgeted
from rcore.torch.errors import UnusedRuleWarning
from rcore.torch.models import KindMapping
from rcore.torch.policy import Policy

__all__ = ["apply", "enable_gradient_checkpointing"]


def apply(model: nn.Module, policy: Policy, mapping: KindMapping | None = None) -> Applied:
    """Applies a policy to a model; the model's names, attributes and state_dict stay as they are.

    Args:
        model: a model of Hugging Face, one of torch.nn's Transformer layers, or any that
            ``mapping`` explains.
        policy: what to keep, recompute and discard. Whatever was applied before is removed first.
        mapping: kinds of modules that are not recognised: a dict from path patterns to kinds, or a
            function ``(path, module) -> kind or None``.

    Returns:
        The applied policy; ``report`` and ``remove`` find it by the model too.

    Raises:
        rcore.Error: with the field of the policy that is wrong, its value and the limit.

    Warns:
        UnusedRuleWarning: where a rule names nothing that the model has.
    """
    remove(model)
    applied = Applied(model, policy, mapping)
    for rule in applied.dead_rules:
        warnings.warn(f"rcore.torch.apply: {rule} of the policy matched no module of the model",
                      UnusedRuleWarning, stacklevel=2)
    try:
        applied.install()
        if policy.limit is not None:
            applied.plan_with(Budgeted(applied, model, policy.limit), model)
    except BaseException:
        applied.uninstall()
        raise
    put_on(model, applied)
    return applied


def enable_gradient_checkpointing(model: nn.Module, **options: Any) -> None:
    """Turns on a Hugging Face model's own gradient checkpointing, on regions of the core.

    Args:
        model: a ``transformers.PreTrainedModel``.
        **options: of ``rcore.torch.checkpoint``.
    """
    options.setdefault("use_reentrant", False)
    # The older name warns where there is a newer one.
    enable = (getattr(model, "activation_checkpointing_enable", None) or
              model.gradient_checkpointing_enable)
    enable({"use_reentrant": options["use_reentrant"]})
    model._set_gradient_checkpointing(
        enable=True, gradient_checkpointing_func=functools.partial(checkpointing.checkpoint,
                                                                   **options))
