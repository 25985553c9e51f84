# rcore/plan/library.py: the planning calls of librcore.so.1, by ctypes over rcore.h.
"""Text in, text out: what ``rcore.plan`` asks of the library."""
from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Callable
from typing import Any

import rcore
from rcore.errors import Error

__all__ = ["Policy", "describe_inventory", "evaluate", "make_plan"]

_Text = Callable[[Any, ctypes.c_uint64, Any], int]


class _Head(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("struct_type", ctypes.c_int32),
        ("next", ctypes.c_void_p),
    ]


class _ErrorInfo(ctypes.Structure):
    _fields_ = [
        ("head", _Head),
        ("code", ctypes.c_int32),
        ("native_domain", ctypes.c_int32),
        ("native_code", ctypes.c_int64),
        ("region_id", ctypes.c_uint64),
        ("call", ctypes.c_char * 48),
        ("field", ctypes.c_char * 64),
        ("message", ctypes.c_char * 512),
    ]


class _Note(ctypes.Structure):
    _fields_ = [("head", _Head), ("field", ctypes.c_char * 64), ("message", ctypes.c_char * 512)]


_TYPE_ERROR_INFO, _TYPE_NOTE = 1, 14


@functools.cache
def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(rcore.library_path())
    lib.rc_status_name.restype = ctypes.c_char_p
    for release in (lib.rc_policy_release, lib.rc_plan_release):
        release.restype = None
        release.argtypes = [ctypes.c_void_p]
    return lib


def _check(status: int) -> int:
    if status >= 0:
        return status
    info = _ErrorInfo()
    info.head = _Head(ctypes.sizeof(_ErrorInfo), _TYPE_ERROR_INFO, None)
    _library().rc_error_last(ctypes.byref(info))
    name = _library().rc_status_name(ctypes.c_int32(status)).decode()
    field, message = info.field.decode(errors="replace"), info.message.decode(errors="replace")
    raise Error(f"{field}: {message}" if field else message, name, field)


def _text(call: _Text) -> str:
    needed = ctypes.c_uint64()
    _check(call(None, ctypes.c_uint64(0), ctypes.byref(needed)))
    buffer = ctypes.create_string_buffer(needed.value)
    _check(call(buffer, ctypes.c_uint64(needed.value), ctypes.byref(needed)))
    return buffer.value.decode()


def _encoded(request: dict[str, Any]) -> tuple[bytes, ctypes.c_uint64]:
    text = json.dumps(request).encode()
    return text, ctypes.c_uint64(len(text))


class Policy:
    """A policy of the library: checked, immutable."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle
        self._release = _library().rc_policy_release

    @classmethod
    def from_json(cls, text: str | dict[str, Any]) -> Policy:
        """Reads the form of ``POLICY_JSON.md``; every rule of ``POLICY_RULES.md`` is checked."""
        encoded = (text if isinstance(text, str) else json.dumps(text)).encode()
        handle = ctypes.c_void_p()
        _check(
            _library().rc_policy_create_json(
                encoded, ctypes.c_uint64(len(encoded)), ctypes.byref(handle)
            )
        )
        return cls(handle)

    def describe(self) -> dict[str, Any]:
        """The policy in the form that :meth:`from_json` reads."""
        return json.loads(
            _text(lambda b, c, n: _library().rc_policy_describe(self._handle, b, c, n))
        )

    def notes(self) -> list[tuple[str, str]]:
        """(field, message) of what a setting does not do although one may expect it."""
        found: list[tuple[str, str]] = []
        note = _Note()
        while True:
            note.head = _Head(ctypes.sizeof(_Note), _TYPE_NOTE, None)
            if (
                _check(
                    _library().rc_policy_note(
                        self._handle, ctypes.c_uint32(len(found)), ctypes.byref(note)
                    )
                )
                > 0
            ):
                return found
            found.append((note.field.decode(), note.message.decode()))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._release(self._handle)


def make_plan(request: dict[str, Any]) -> dict[str, Any]:
    """``rc_plan_create`` and ``rc_plan_report``: the report, its policy under ``"policy"``."""
    plan = ctypes.c_void_p()
    _check(_library().rc_plan_create(*_encoded(request), ctypes.byref(plan)))
    try:
        return json.loads(_text(lambda b, c, n: _library().rc_plan_report(plan, b, c, n)))
    finally:
        _library().rc_plan_release(plan)


def describe_inventory(request: dict[str, Any]) -> dict[str, Any]:
    """``rc_plan_inventory``: the saved tensors of the model's layers."""
    text = _encoded(request)
    return json.loads(_text(lambda b, c, n: _library().rc_plan_inventory(*text, b, c, n)))


def evaluate(request: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """``rc_plan_evaluate``: what a policy saves and costs, rank by rank."""
    text = _encoded(request)
    return json.loads(
        _text(lambda b, c, n: _library().rc_plan_evaluate(*text, policy._handle, b, c, n))
    )
