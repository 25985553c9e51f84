# rcore/errors.py: the one class of all errors that rcore raises.
"""Errors."""
from __future__ import annotations

__all__ = ["Error"]


class Error(RuntimeError):
    """A call of the library failed.

    Attributes:
        status: the name of the library's status (``"RC_E_ARGUMENT"``), or ``""`` where the binding
            itself refused.
        field: what was wrong, as the library names it (``"/rules/3/kind"``), or ``""``.
    """

    def __init__(self, message: str, status: str = "", field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.field = field
