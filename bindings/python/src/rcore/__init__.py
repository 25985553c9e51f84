# rcore/__init__.py: the library's version and where it lies; frameworks are imported by their own
# submodules.
"""rcore: owns the activation memory of transformer training.

``rcore.torch`` is the binding of PyTorch. Nothing is imported here but the library itself, so
``import rcore`` costs a millisecond and needs no framework.
"""
from __future__ import annotations

import pathlib

from rcore._core import version as _version
from rcore.errors import Error

__all__ = ["Error", "__version__", "library_path"]

#: The library's version: ``major.minor.patch``.
__version__: str = "{}.{}.{}".format(*_version())


def library_path() -> str:
    """The path of ``librcore.so.1`` in this wheel, for ``ctypes`` and for programs that load it
    themselves.
    """
    return str(pathlib.Path(__file__).with_name("librcore.so.1"))
