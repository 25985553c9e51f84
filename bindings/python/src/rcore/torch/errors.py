# rcore/torch/errors.py: the errors of rcore.torch, all of them rcore.Error.
"""Errors of the PyTorch binding."""
from __future__ import annotations

import torch.utils.checkpoint as _torch_checkpoint

from rcore.errors import Error

__all__ = ["CheckpointError", "Error", "KeptOutputWarning", "StopReplay", "UnusedRuleWarning"]


class CheckpointError(Error, _torch_checkpoint.CheckpointError):
    """A replay did not do what its forward did. Also caught as torch's own ``CheckpointError``."""


class UnusedRuleWarning(UserWarning):
    """A rule of a policy matched no module of the model."""


class KeptOutputWarning(UserWarning):
    """An output that was to be discarded keeps its bytes."""


class StopReplay(BaseException):
    """Ends a replay that has made all it has to. No ``except Exception`` in a model catches it."""
