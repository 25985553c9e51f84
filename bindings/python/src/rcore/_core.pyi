# rcore/_core.pyi: the extension as Python sees it; its sources are in src/_core.
"""The hot path of rcore.torch and the library's handles."""
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, final

@final
class Policy:
    """An immutable table (site, slot) -> decision."""

    def describe(self) -> str:
        """The policy's JSON form."""
    def notes(self) -> list[tuple[str, str]]:
        """(field, message) of each setting that does nothing."""
    def decide(self, kind: str, layer: int, role: int, /) -> dict[str, int]:
        """The decision at a site: action, tier, codec, rule, first_layer, n_layers."""

@final
class Context:
    """Storage and statistics of the regions of one policy."""

    def configure(self, policy: Policy, /) -> None:
        """For regions begun from now on."""
    def stats(self) -> dict[str, int]:
        """The core's counters."""
    def report(self) -> str:
        """JSON of the core: per kind and layer, dead rules."""

@final
class Module:
    """A registered submodule: kind, layer, and what the policy says of it."""

    @property
    def kind(self) -> str:
        """As declared."""
    @property
    def name(self) -> str:
        """Its path in the model."""
    @property
    def layer(self) -> int:
        """From 0 on."""
    @property
    def recomputes(self) -> bool:
        """Whether its saved tensors are made again."""
    @property
    def discards(self) -> bool:
        """Whether its outputs are."""
    @property
    def unit_layers(self) -> int:
        """Of how many layers its recompute unit is."""
    def counters(self) -> dict[str, int]:
        """Regions, replays, and bytes in the host's memory."""
    def reset(self) -> None:
        """Sets the counters to zero."""

@final
class Region:
    """One run of a function whose saved tensors are made again."""

    @property
    def module(self) -> Module:
        """The registered module."""
    @property
    def function(self) -> Callable[..., Any]:
        """What a replay calls."""
    @property
    def ready(self) -> bool:
        """True between replay() and release()."""
    def replay(self) -> None:
        """Makes the saved tensors available now; every backward shares them until release(), or
        until its graph is freed.
        """
    def release(self) -> None:
        """Drops what replay() made; a later backward replays again."""
    def output(self, index: int, /) -> Any:
        """An output of a replay, for the backward that runs."""
    def info(self) -> dict[str, Any]:
        """The region's state."""

@final
class Scope:
    """Where discardable outputs are read for the last time."""

    def __enter__(self) -> None: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None, /) -> None: ...

def version() -> tuple[int, int, int]:
    """(major, minor, patch) of the loaded library."""

def setup_torch(callables: dict[str, Any], /) -> bool:
    """Whether tensors are read by torch's exchange capsule."""

def make_policy(json: str, /) -> Policy:
    """A policy in its JSON form."""

def make_context() -> Context:
    """A context without memory of its own."""

def make_module(context: Context, policy: Policy, kind: str, name: str, layer: int, /) -> Module:
    """Registers a submodule."""

def make_scope() -> Scope:
    """A context manager: discarded outputs end with it."""

def scope_is_open() -> bool:
    """Whether this thread is in a Scope."""

def run_region(module: Module, flags: int, extras: Any, function: Callable[..., Any],
               arguments: tuple[Any, ...], keywords: dict[str, Any], /) -> Any:
    """What the function returns; its saved tensors are not kept."""

def is_quiet(function: Callable[..., Any], arguments: tuple[Any, ...],
             keywords: dict[str, Any] | None, /) -> bool:
    """Whether no module that the call is made with, or has at hand, has a buffer."""

def note_quiet(module: Any, /) -> None:
    """A module without a buffer in its whole tree."""

def record(tensor: Any, /) -> Any:
    """The tensor, or in a replay what the forward had there."""

def is_replaying() -> bool:
    """Whether the running function is being replayed."""

def collect(regions: list[Region] | None, /) -> list[Region] | None:
    """Regions begun on this thread are appended to it; the former one."""

def set_trace(events: list[tuple[Any, ...]] | None, /) -> list[tuple[Any, ...]] | None:
    """Gets (what, kind, name, layer, begin_ns, end_ns, bytes, resident); the former one."""

def note_output(region: Region, index: int, output: Any, saved: Any, /) -> Any:
    """What a graph may keep of `saved`, or None where it is no part of that output."""

def unpack_noted(note: Any, /) -> Any:
    """The tensor, from a replay."""

def keep_saved(tensor: Any, /) -> Any:
    """What a hook may keep of it."""

def hand_on_saved(tensor: Any, /) -> Any:
    """The same, for a hook that others stand around: they take it."""

def unpack_saved(kept: Any, /) -> Any:
    """The tensor."""

def meter_start(left_out: Sequence[int], /) -> None:
    """Counts what is saved from now on, but the storages at these addresses."""

def meter_leave_out(address: int, /) -> None:
    """A storage that is not counted."""

def meter_enter(inside: bool, /) -> bool:
    """Whether this thread runs the measured model's forward; the former."""

def meter_read() -> tuple[int, int]:
    """(live, peak) bytes."""

def meter_stop() -> None:
    """Ends the count."""
