# rcore/torch/__init__.py: the PyTorch binding.
"""rcore for PyTorch: a drop-in checkpoint, and recompute policies applied to models."""
from __future__ import annotations

from torch.utils.checkpoint import (CheckpointPolicy, GraphExecGroup,
                                    create_selective_checkpoint_contexts)

from rcore.torch.applied import Applied, applied_to, remove
from rcore.torch.applying import apply, enable_gradient_checkpointing
from rcore.torch.checkpointing import (checkpoint, checkpoint_sequential,
                                       set_checkpoint_debug_enabled, set_checkpoint_early_stop,
                                       set_verify)
from rcore.torch.discarding import DiscardedOutput, discard_output, discards
from rcore.torch.engine import stats
from rcore.torch.errors import CheckpointError, Error, KeptOutputWarning, UnusedRuleWarning
from rcore.torch.policy import Policy, Rule
from rcore.torch.regions import collect_regions, is_replaying, record
from rcore.torch.reporting import Report, Watch, report, watch

__all__ = [
    "Applied", "CheckpointError", "CheckpointPolicy", "DiscardedOutput", "Error", "GraphExecGroup",
    "KeptOutputWarning", "Policy", "Report", "Rule", "UnusedRuleWarning", "Watch", "applied_to",
    "apply", "checkpoint", "checkpoint_sequential", "collect_regions",
    "create_selective_checkpoint_contexts", "discard_output", "discards",
    "enable_gradient_checkpointing", "is_replaying", "record", "remove", "report",
    "set_checkpoint_debug_enabled", "set_checkpoint_early_stop", "set_verify", "stats", "watch",
]
