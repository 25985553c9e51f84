# rcore/plan/errors.py: input that cannot be read.
"""The error of a model, a settings file or a number that makes no sense."""
from __future__ import annotations

from rcore.errors import Error

__all__ = ["InputError"]


class InputError(Error):
    """One line that names the input and what is wrong with it."""
