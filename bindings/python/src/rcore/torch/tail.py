# rcore/torch/tail.py: whether the rest of a Python frame can be seen by anyone.
"""Early stop without its price.

A replay that has made all it must is stopped by an exception, which costs several microseconds and
more for each frame it passes. Where all that is left to run is to return, through any number of
frames, stopping changes nothing and is not worth it. This is decided from the instructions that
follow the running one in each frame.
"""
from __future__ import annotations

import dis
import types

__all__ = ["only_returns"]

# Instructions that neither run other code nor change what others see.
_SILENT = frozenset((
    "BUILD_LIST",
    "BUILD_TUPLE",
    "CACHE",
    "COPY",
    "END_FOR",
    "EXTENDED_ARG",
    "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT",
    "JUMP_FORWARD",
    "LOAD_CLOSURE",
    "LOAD_CONST",
    "LOAD_DEREF",
    "LOAD_FAST",
    "LOAD_FAST_AND_CLEAR",
    "LOAD_FAST_BORROW",
    "LOAD_FAST_CHECK",
    "LOAD_FAST_LOAD_FAST",
    "NOP",
    "NOT_TAKEN",
    "POP_ITER",
    "POP_TOP",
    "PUSH_NULL",
    "RESUME",
    "STORE_FAST",
    "STORE_FAST_LOAD_FAST",
    "STORE_FAST_STORE_FAST",
    "SWAP",
    "UNPACK_SEQUENCE",
))
_ENDS = frozenset(("RETURN_VALUE", "RETURN_CONST"))
_JUMPS = frozenset(("JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD"))


def only_returns(code: types.CodeType, at: int) -> bool:
    """True if the instructions after the one at offset ``at`` do nothing but return."""
    instructions = list(dis.get_instructions(code))
    index = {instruction.offset: i for i, instruction in enumerate(instructions)}
    if at not in index:
        return False
    i, seen = index[at] + 1, set()
    while i < len(instructions) and i not in seen:
        seen.add(i)
        instruction = instructions[i]
        if instruction.opname in _ENDS:
            return True
        if instruction.opname not in _SILENT:
            return False
        elif instruction.opname in _JUMPS:
            i = index[instruction.argval]
        else:
            i += 1
    return False
