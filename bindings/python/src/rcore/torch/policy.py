# rcore/torch/policy.py: what is recomputed where, in Megatron's words, in JSON, or by rules of
# one's own.
"""Policies."""
from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rcore import _core
from rcore.errors import Error

__all__ = ["Policy", "Rule"]

ACTIONS = ("keep", "recompute", "discard")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclasses.dataclass(frozen=True)
class Rule:
    """What happens to the modules that a pattern of paths names, in a range of layers.

    Attributes:
        path: a pattern of module paths as ``named_modules`` gives them, with ``*`` and ``?``
            (``"*.layers.*.mlp"``).
        action: ``"keep"``, ``"recompute"`` (what the module saves is made again), or ``"discard"``
            (its outputs too).
        layers: ``(first, end)``, the range of layers in which it holds; None is all.
    """

    path: str
    action: str = "recompute"
    layers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise Error(f"rule.action: {self.action!r}; one of {', '.join(ACTIONS)}",
                        "RC_E_ARGUMENT", "action")
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1]:
            raise Error(f"rule.layers: {self.layers}; wanted (first, end) with first < end",
                        "RC_E_ARGUMENT", "layers")


class Policy:
    """An immutable table of decisions, checked by the library when it is made.

    ``Policy(recompute_granularity="selective", recompute_modules=["core_attn", "layernorm"])``
    takes every member of the library's JSON form as a keyword;
    ``Policy.from_args("--recompute-granularity full --recompute-method uniform
    --recompute-num-layers 2")`` takes Megatron's command line.

    What a setting says about a model (``num_layers``, ``moe_layers``, ...) is filled in from the
    model by ``apply``.
    """

    def __init__(self, *, paths: Iterable[Rule | Mapping[str, Any]] = (), **settings: Any) -> None:
        self.limit: int | float | None = None
        self.settings: dict[str, Any] = {"rcore_policy": 1, **settings}
        self.paths: tuple[Rule, ...] = tuple(r if isinstance(r, Rule) else Rule(**r) for r in paths)

    @classmethod
    def none(cls) -> Policy:
        """Keeps everything; what is measured is measured all the same."""
        return cls()

    @classmethod
    def selective(cls, *modules: str, **settings: Any) -> Policy:
        """Recomputes the named submodules of all layers: ``core_attn``, ``mlp``, ``layernorm``,
        ``moe_act``, ...
        """
        return cls(recompute_granularity="selective", recompute_modules=list(modules)
                   or ["core_attn"], **settings)

    @classmethod
    def full(cls, method: str = "uniform", num_layers: int = 1, **settings: Any) -> Policy:
        """Recomputes whole layers: ``uniform`` in chunks of ``num_layers``, ``block`` the first
        ``num_layers``.
        """
        return cls(recompute_granularity="full", recompute_method=method,
                   recompute_num_layers=num_layers, **settings)

    @classmethod
    def budget(cls, limit: str | int | float) -> Policy:
        """The fastest policy whose saved bytes stay within a limit; planned from the model's own
        first forward.

        Saved bytes are what the graph of the model's forward holds for its backward at any moment
        of a step, what replays make again included; parameters, gradients and an operator's own
        scratch memory are not. The first forward of each shape of the inputs is the warm-up: every
        layer is recomputed in it, and what it saves and takes is recorded. The plan holds from the
        next forward of that shape on; nothing has to be marked in the training loop.

        Args:
            limit: bytes (``"6GB"``, ``"512MiB"``, an int), or a fraction in (0, 1] of what keeping
                everything takes.

        Raises:
            rcore.Error: at the end of the warm-up forward, RC_E_BUDGET with the least bytes that
            would do, where no policy
                stays within the limit.
        """
        policy = cls()
        policy.limit = _parse_limit(limit)
        return policy

    @classmethod
    def from_json(cls, source: str | pathlib.Path) -> Policy:
        """From the library's JSON form, as text or as a file."""
        if isinstance(source, pathlib.Path) or not source.lstrip().startswith("{"):
            source = pathlib.Path(source).read_text()
        try:
            settings = json.loads(source)
        except json.JSONDecodeError:
            _core.make_policy(source)  # its message has the line and the column
            raise
        settings.pop("rcore_policy", None)
        return cls(**settings)

    @classmethod
    def from_args(cls, arguments: str | Iterable[str]) -> Policy:
        """From Megatron's flags; those that have nothing to do with recomputation are refused like
        any unknown one.
        """
        words = shlex.split(arguments) if isinstance(arguments, str) else list(arguments)
        settings: dict[str, Any] = {}
        at = 0
        while at < len(words):
            if not words[at].startswith("--"):
                raise Error(f"arguments: {words[at]!r} is no flag", "RC_E_ARGUMENT", "arguments")
            key, at = words[at], at + 1
            name, _, inline = key.partition("=")
            values = [inline] if inline else []
            while at < len(words) and not words[at].startswith("--"):
                values.append(words[at])
                at += 1
            parsed = [_number(v) for v in values]
            many = name.replace("_", "-") in ("--recompute-modules", "--offload-modules")
            settings[name.lstrip("-").replace(
                "-", "_")] = parsed if many else (parsed[0] if parsed else True)
        return cls(**settings)

    def to_json(self, **model: Any) -> str:
        """The JSON form, completed by what is known of a model."""
        settings = {**model, **self.settings}
        if "kinds" in model and "kinds" in self.settings:
            settings["kinds"] = list(self.settings["kinds"]) + list(model["kinds"])
        if "rules" in model and "rules" in self.settings:
            settings["rules"] = list(self.settings["rules"]) + list(model["rules"])
        return json.dumps(settings)

    def check(self, **model: Any) -> _core.Policy:
        """The library's own table. Raises ``rcore.Error`` with the field, its value and the limit.
        """
        return _core.make_policy(self.to_json(**model))

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.settings.items() if k != "rcore_policy"}
        if self.limit is not None:
            return f"Policy.budget({self.limit!r})"
        paths = f", paths={list(self.paths)}" if self.paths else ""
        return "Policy(" + ", ".join(f"{k}={v!r}" for k, v in shown.items()) + paths + ")"


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _parse_limit(limit: str | int | float) -> int | float:
    """Bytes, or a fraction of what keeping everything takes.

    ``"6GB"`` is 6,000,000,000 bytes, ``"6GiB"`` 6 * 2**30; ``0.4`` is a fraction, an int is bytes.
    """
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?I?B?)\s*", limit, re.IGNORECASE)
        if match is None or match[2].upper() not in _UNITS:
            raise Error(
                f"budget: {limit!r} is no size; write '6GB', '512MiB' or a fraction such as 0.4",
                "RC_E_ARGUMENT", "budget")
        return int(float(match[1]) * _UNITS[match[2].upper()])
    is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
    if not is_number or not 0 < limit or (isinstance(limit, float) and limit > 1):
        raise Error(
            f"budget: {limit!r}; wanted bytes (6_000_000_000, '6GB') or a fraction in (0, 1]",
            "RC_E_ARGUMENT", "budget")
    return limit
