# rcore/torch/emptied.py: outputs whose storage is empty until backward, and the proof that nobody
# can read them meanwhile.
"""Emptying a storage that torch owns.

A tensor over an empty storage must not be read: an operator of the CPU would follow a null pointer.
    So a storage is
emptied only where every holder of it is known. Nodes of the graph that saved it get a note instead,
of which output of which region it is, and take the value from a replay. The program's own tensors
get the inside of a stand-in that has no storage at all: an operator, a kernel of C++ and a
switched-off ``__torch_function__`` meet an error, not memory. The counts of references that torch
gives say whether there is anybody else; then nothing is freed.
"""
from __future__ import annotations

import weakref
from typing import Any
from collections.abc import Iterator, Sequence

import torch

from rcore import _core
from rcore.errors import Error
from rcore.torch.observing import storages_in, storages_of

__all__ = ["Discarded", "Emptied"]

#: What looks at a tensor without looking at its memory.
_HARMLESS = frozenset(("__hash__", "dim", "element_size", "is_complex", "is_floating_point",
                       "ndimension", "nelement", "numel", "register_hook", "retain_grad", "size",
                       "storage_offset", "stride", "untyped_storage"))
_HARMLESS_ATTRIBUTES = frozenset(
    ("_backward_hooks", "_cdata", "_version", "device", "dtype", "grad", "grad_fn", "is_cpu",
     "is_cuda", "is_leaf", "is_meta", "is_nested", "is_quantized", "is_sparse", "itemsize",
     "layout", "nbytes", "ndim", "output_nr", "requires_grad", "retains_grad", "shape"))


def _attribute(func: Any) -> str | None:
    """The name of the property that a getter reads."""
    attribute = func.__self__
    return getattr(getattr(attribute, "fget", attribute), "__name__", None)


def _refuse(name: str) -> Error:
    return Error(
        f"rcore.torch: {name}() reads an output that was discarded; it is there again in backward "
        "only. Read it before discard(), or clone it", "RC_E_STATE")


class Discarded(torch.Tensor):
    """A tensor whose storage holds 0 bytes until its readers' backward. Every use of it is an
    error.

    ``_real`` is what it was, over the empty storage; ``_answers`` what that cannot tell; ``_root``
    of what it is a view.
    """

    _real: torch.Tensor
    _answers: dict[str, Any]
    _root: torch.Tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            attribute = _attribute(func)
            if attribute in _HARMLESS_ATTRIBUTES:
                answers = args[0]._answers
                return answers[attribute] if attribute in answers else func(args[0]._real)
        elif name in _HARMLESS and name not in args[0]._answers:
            if name == "__hash__":
                return id(args[0])
            return func(args[0]._real, *args[1:], **(kwargs or {}))
        raise _refuse(name)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise _refuse(str(func))


def _stand_in(t: torch.Tensor) -> Discarded:
    """Of the same shape, without a storage. It is sparse, as no other layout does without one."""
    hollow = torch.empty(t.shape, dtype=t.dtype, device=t.device, layout=torch.sparse_coo)
    return torch.Tensor._make_subclass(Discarded, hollow)


def _sequence_number(tensor: torch.Tensor) -> int:
    """Of the node that made it: nodes made on this thread later have a higher one."""
    return tensor.grad_fn._sequence_nr() if tensor.grad_fn is not None else 0


_raw_names: dict[type, list[str]] = {}


def _saved_by(node: Any) -> Iterator[tuple[Any, torch.Tensor]]:
    """What a node saved, and the tensors in it; what hooks made of one stays as it is."""
    names = _raw_names.get(type(node))
    if names is None:
        names = _raw_names[type(node)] = [n for n in dir(node) if n.startswith("_raw_saved_")]
    for name in names:
        try:
            value = getattr(node, name)
        except RuntimeError:  # freed already
            continue
        for saved in value if isinstance(value, (tuple, list)) else (value,):
            tensor = getattr(saved, "data", None)
            if isinstance(tensor, torch.Tensor):
                yield saved, tensor


def _nodes_since(readers: Sequence[torch.Tensor], first: int) -> Iterator[Any]:
    """The nodes of the readers' graphs that are not older than number `first`."""
    seen = set()
    todo = [r.grad_fn for r in readers if r.grad_fn is not None]
    while todo:
        node = todo.pop()
        if node in seen or node._sequence_nr() < first:
            continue
        seen.add(node)
        yield node
        todo.extend(n for n, _ in node.next_functions if n is not None)


#: (node, what it saved, the tensor in that)
_Holder = tuple[Any, Any, torch.Tensor]


class _View:
    """A view of an output, to be made again: torch keeps its base as long as it is."""

    def __init__(self, view: torch.Tensor) -> None:
        self._place = view.size(), view.stride(), view.storage_offset()
        self._requires_grad = view.requires_grad

    def of(self, base: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(self._requires_grad):
            view = base.as_strided(*self._place)
        return view if self._requires_grad or not view.requires_grad else view.detach()


class _Block:
    """One storage, and the outputs that lie in it."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage, self.nbytes = storage, storage.nbytes()
        # Index, tensor, version; until it is emptied.
        self.outputs: list[tuple[int, torch.Tensor, int]] = []
        # What is written when it is filled: of the first output.
        self.first: tuple[int, torch.dtype, Any, Any, int] | None = None
        self._emptied: list[weakref.ref[torch.Tensor]] = []
        self._views: list[tuple[weakref.ref[torch.Tensor], _View]] = []

    def reason_to_keep(self, holders: list[_Holder]) -> str | None:
        """Why it cannot be emptied, given what the graph holds."""
        known = {id(t): t for _, t, _ in self.outputs}
        saves: dict[int, int] = {}
        for _, _, t in holders:
            known[id(t)] = t
            saves[id(t)] = saves.get(id(t), 0) + 1
        bases: dict[int, int] = {}
        for t in list(known.values()):
            if t._base is not None:
                known.setdefault(id(t._base), t._base)
                bases[id(t._base)] = bases.get(id(t._base), 0) + 1
        self._known = list(known.values())
        if any(version != t._version for _, t, version in self.outputs):
            return "the output was changed in place"
        if any(type(t) is not torch.Tensor for t in self._known):
            return "the output is of a class of its own"
        if not self.storage.resizable():
            return "its memory was handed to another library"
        if torch._C._storage_Use_Count(self.storage._cdata) != len(self._known) + 1:
            return "there is a view of the output, or a graph outside of the readers' holds one"
        if any(t._use_count() != 1 + saves.get(i, 0) + bases.get(i, 0) for i, t in known.items()):
            return "something beside the readers' graphs holds the output"
        return None

    def note(self, region: Any, holders: list[_Holder]) -> bool:
        """Gives the nodes notes instead of the memory; False, and nothing done, where one reads it
        as something else.
        """
        notes = []
        for _, _, saved in holders:
            found = (_core.note_output(region, index, output, saved)
                     for index, output, _ in self.outputs)
            notes.append(next((n for n in found if n is not None), None))
        if None in notes:
            return False
        for (_, raw, _), note in zip(holders, notes):
            raw.register_hooks(lambda tensor, note=note: note, _core.unpack_noted)
        return True

    def empty(self) -> str | None:
        """Empties it, or says why not."""
        index, t, _ = self.outputs[0]
        self.first = (index, t.dtype, t.size(), t.stride(), t.storage_offset())
        alive = [weakref.ref(t) for t in self._known]
        t = None
        self.outputs, self._known = [], []
        alive = [ref for ref in alive if ref() is not None]
        try:
            # A view holds its base, so views go first, and are made again.
            for ref in alive:
                self._swap_view(ref)
            for ref in alive:
                self._swap(ref)
        except RuntimeError:  # torch refuses what is referred to weakly, as by retain_grad()
            self.restore()
            return "torch keeps a weak reference to it, as after retain_grad()"
        self.storage.resize_(0)
        return None

    def _swap_view(self, ref: weakref.ref[torch.Tensor]) -> None:
        t = ref()
        if t is None or t._base is None:
            return
        base, facts = t._base, _View(t)
        answers = {"requires_grad": t.requires_grad, "grad_fn": t.grad_fn, "is_leaf": t.is_leaf,
                   "output_nr": t.output_nr, "register_hook": None, "retain_grad": None}
        real = t.detach()
        self._take_inside(t, _stand_in(t))
        t._real, t._answers, t._root = real, answers, base
        self._views.append((ref, facts))

    def _swap(self, ref: weakref.ref[torch.Tensor]) -> None:
        t = ref()
        if t is None or isinstance(t, Discarded):
            return
        real = _stand_in(t)
        self._take_inside(t, real)
        t._real, t._answers = real, {}
        self._emptied.append(ref)

    @staticmethod
    def _take_inside(t: torch.Tensor, other: torch.Tensor) -> None:
        if t._use_count() != 1:
            raise RuntimeError("held by something else")
        torch._C._swap_tensor_impl(t, other)
        t.__class__, other.__class__ = other.__class__, t.__class__

    def restore(self) -> None:
        """Gives the program's tensors their inside again."""
        for ref in self._emptied:
            t = ref()
            if t is None:
                continue
            real = t.__dict__.pop("_real")
            del t._answers
            self._take_inside(t, real)
        for ref, facts in self._views:
            t = ref()
            if t is None:
                continue
            self._take_inside(t, facts.of(t._root))
            del t._real, t._answers, t._root
        self._emptied, self._views = [], []

    def fill(self, region: Any) -> None:
        """Fills it again, where the program still has a tensor over it."""
        refs = self._emptied + [ref for ref, _ in self._views]
        if self.first is None or all(ref() is None for ref in refs):
            return
        index, dtype, size, stride, offset = self.first
        value = region.output(index)
        self.storage.resize_(self.nbytes)
        # Through an alias of its own, so that the version which readers have noted stays. The whole
        # storage, where the output was a part of it.
        if value.untyped_storage().nbytes() == self.nbytes:
            self.storage.copy_(value.untyped_storage())
        else:
            with torch.no_grad():
                torch.empty(0, dtype=dtype, device=value.device).set_(self.storage, offset, size,
                                                                      stride).copy_(value)
        self.restore()


_emptied: weakref.WeakValueDictionary[int, Emptied] = weakref.WeakValueDictionary()


class Emptied:
    """One call's outputs: their memory, and the region that makes it again.

    Attributes:
        kept_bytes: what ``empty`` did not free.
        reasons: why not.
    """

    def __init__(self, region: Any, args: Any, kwargs: Any, result: Any) -> None:
        self._region = region
        inputs = storages_in((args, kwargs))
        # An input that is itself discarded is filled first.
        self._before = [p for p in (_emptied.get(i) for i in inputs) if p is not None]
        self._blocks: dict[int, _Block] = {}
        self.kept_bytes = 0
        self.reasons: list[str] = []
        for index, t in enumerate(result if isinstance(result, tuple) else (result,)):
            # What torch.func wraps has no storage either.
            if not isinstance(t, torch.Tensor) or not storages_of((t,)) - inputs:
                continue
            storage = t.untyped_storage()
            block = self._blocks.setdefault(storage._cdata, _Block(storage))
            block.outputs.append((index, t, t._version))
            _emptied[storage._cdata] = self
        self._since = min(
            (_sequence_number(t) for b in self._blocks.values() for _, t, _ in b.outputs),
            default=0)

    def is_awaited(self) -> bool:
        """Whether the graph that it was made for may still run."""
        info = self._region.info()
        return info["alive"] > 0 or info["saved_tensors"] == 0

    def lies_in(self, storages: set[int]) -> bool:
        """Whether one of the outputs lies in one of these."""
        return not storages.isdisjoint(self._blocks)

    def empty(self, readers: Sequence[torch.Tensor]) -> int:
        """Empties what can be; returns the bytes."""
        holders: dict[int, list[_Holder]] = {at: [] for at in self._blocks}
        for node in _nodes_since(readers, self._since):
            for saved, t in _saved_by(node):
                found = holders.get(
                    t.untyped_storage()._cdata) if t.layout is torch.strided else None
                if found is not None:
                    found.append((node, saved, t))
        saved = t = found = None  # no name may count as a holder
        freed = 0
        nodes: set[Any] = set()
        for at, block in list(self._blocks.items()):
            held = holders.pop(at)
            reason = block.reason_to_keep(held)
            if reason is None and not block.note(self._region, held):
                reason = "a reader's graph holds it as another type"
            if reason is None:
                nodes.update(node for node, _, _ in held)
                held.clear()
                reason = block.empty()
            if reason is None:
                freed += block.nbytes
                continue
            self.kept_bytes += block.nbytes
            self.reasons.append(reason)
            del self._blocks[at], _emptied[at]
        for node in nodes:
            node.register_prehook(lambda gradients: self.refill())
        return freed

    def refill(self) -> None:
        """Fills again what the program still has, and lets go of it."""
        for p in self._before:
            p.refill()
        for at, block in list(self._blocks.items()):
            block.fill(self._region)
            del self._blocks[at]
        self._before, self._region = [], None
