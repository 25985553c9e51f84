# rcore/torch/emptied.py: outputs whose storage is empty until backward, and the proof that nobody can read them meanwhile.
"""Emptying a storage that torch owns.

A tensor over an empty storage must not be read: an operator of the CPU would follow a null pointer. So a storage is
emptied only where every holder of it is known. Python's tensors over it refuse each use while it is empty; nodes of the
graph that saved it fill it before they run, whichever backward pass gets there first. The counts of references that
torch gives say whether there is anybody else; then nothing is freed.
"""
from __future__ import annotations

import weakref
from typing import Any, Iterator, Sequence

import torch
from torch.utils._pytree import tree_leaves

from rcore.errors import Error

__all__ = ["Discarded", "Emptied"]

#: What looks at a tensor without looking at its memory.
_HARMLESS = frozenset((
    "__hash__", "dim", "element_size", "is_complex", "is_floating_point", "ndimension", "nelement", "numel", "register_hook",
    "retain_grad", "size", "storage_offset", "stride", "untyped_storage"))
_HARMLESS_ATTRIBUTES = frozenset((
    "_backward_hooks", "_cdata", "_version", "device", "dtype", "grad", "grad_fn", "is_cpu", "is_cuda", "is_leaf", "is_meta",
    "is_nested", "is_quantized", "is_sparse", "itemsize", "layout", "nbytes", "ndim", "output_nr", "requires_grad",
    "retains_grad", "shape"))


def _is_harmless(func: Any, name: str) -> bool:
    if name != "__get__":
        return name in _HARMLESS
    attribute = func.__self__
    return getattr(getattr(attribute, "fget", attribute), "__name__", None) in _HARMLESS_ATTRIBUTES


class Discarded(torch.Tensor):
    """A tensor whose storage holds 0 bytes until its readers' backward. Every use of it is an error."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        if _is_harmless(func, name):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise Error(f"rcore.torch: {name}() reads an output that was discarded; it is there again in backward only. Read it "
                    "before discard(), or clone it", "RC_E_STATE")


def _sequence_number(tensor: torch.Tensor) -> int:
    """Of the node that made it: nodes made on this thread later have a higher one."""
    return tensor.grad_fn._sequence_nr() if tensor.grad_fn is not None else 0


_raw_names: dict[type, list[str]] = {}


def _saved_by(node: Any) -> Iterator[torch.Tensor]:
    """The tensors that a node holds; what hooks made of one stays as it is."""
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
                yield tensor


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


class _Block:
    """One storage, and the outputs that lie in it."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage, self.nbytes = storage, storage.nbytes()
        self.outputs: list[tuple[int, torch.Tensor, int]] = []  # index, tensor, version; until it is emptied
        # What is written when it is filled: of the first output.
        self.first: tuple[int, torch.dtype, Any, Any, int] | None = None
        self.swapped: list[tuple["weakref.ref[torch.Tensor]", type]] = []

    def reason_to_keep(self, holders: dict[int, list[torch.Tensor]]) -> str | None:
        """Why it cannot be emptied, given what the graph holds, by the identity of tensors."""
        known = {id(t): t for _, t, _ in self.outputs}
        saves: dict[int, int] = {}
        for tensors in holders.values():
            for t in tensors:
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

    def empty(self) -> int:
        self._swap()
        self.storage.resize_(0)
        return self.nbytes

    def _swap(self) -> None:
        index, t, _ = self.outputs[0]
        self.first = (index, t.dtype, t.size(), t.stride(), t.storage_offset())
        for t in self._known:
            self.swapped.append((weakref.ref(t), t.__class__))
            t.__class__ = Discarded
        self.outputs, self._known = [], []

    def fill(self, region: Any) -> None:
        index, dtype, size, stride, offset = self.first
        value = region.output(index)
        self.storage.resize_(self.nbytes)
        # Through an alias of its own, so that the version which readers have noted stays. The whole storage, where the
        # output was a part of it.
        if value.untyped_storage().nbytes() == self.nbytes:
            self.storage.copy_(value.untyped_storage())
        else:
            with torch.no_grad():
                torch.empty(0, dtype=dtype, device=value.device).set_(self.storage, offset, size, stride).copy_(value)
        for ref, kind in self.swapped:
            t = ref()
            if t is not None and isinstance(t, Discarded):
                t.__class__ = kind
        self.swapped = []


_emptied: "weakref.WeakValueDictionary[int, Emptied]" = weakref.WeakValueDictionary()


class Emptied:
    """One call's outputs: their memory, and the region that makes it again.

    Attributes:
        kept_bytes: what ``empty`` did not free.
        reasons: why not.
    """

    def __init__(self, region: Any, args: Any, kwargs: Any, result: Any) -> None:
        self._region = region
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        # An input that is itself discarded is filled first.
        self._before = [p for p in (_emptied.get(i) for i in inputs) if p is not None]
        self._blocks: dict[int, _Block] = {}
        self.kept_bytes, self.reasons = 0, []
        for index, t in enumerate(result if isinstance(result, tuple) else (result,)):
            if not isinstance(t, torch.Tensor) or t.untyped_storage()._cdata in inputs:
                continue
            storage = t.untyped_storage()
            block = self._blocks.setdefault(storage._cdata, _Block(storage))
            block.outputs.append((index, t, t._version))
            _emptied[storage._cdata] = self
        self._since = min((_sequence_number(t) for b in self._blocks.values() for _, t, _ in b.outputs), default=0)

    def empty(self, readers: Sequence[torch.Tensor]) -> int:
        """Empties what can be; returns the bytes."""
        holders: dict[int, dict[Any, list[torch.Tensor]]] = {at: {} for at in self._blocks}
        for node in _nodes_since(readers, self._since):
            for t in _saved_by(node):
                found = holders.get(t.untyped_storage()._cdata) if t.layout is torch.strided else None
                if found is not None:
                    found.setdefault(node, []).append(t)
        t = found = None  # no name may count as a holder
        freed = 0
        nodes = set()
        for at, block in list(self._blocks.items()):
            reason = block.reason_to_keep(holders[at])
            if reason is None:
                nodes.update(holders.pop(at))
                freed += block.empty()
                continue
            self.kept_bytes += block.nbytes
            self.reasons.append(reason)
            del self._blocks[at], _emptied[at]
        for node in nodes:
            node.register_prehook(lambda gradients: self.refill())
        return freed

    def refill(self) -> None:
        """Fills again what is empty, and lets go of it."""
        for p in self._before:
            p.refill()
        for at, block in list(self._blocks.items()):
            if block.storage.nbytes() == 0 < block.nbytes:
                block.fill(self._region)
            del self._blocks[at]
        self._before, self._region = [], None
