"""What a forward pass that could not be followed to its end would have run afterwards."""

from __future__ import annotations

import dis
from collections.abc import Mapping
from types import CodeType

from torch import nn

from attnzoo.hosts import join

__all__ = ["paths_ahead"]

_CALLING = nn.Module.__call__.__code__.co_filename


def paths_ahead(error: BaseException, paths: Mapping[nn.Module, tuple[str, ...]]) -> frozenset[str]:
    """Paths of the children that the interrupted modules name after the step that failed.

    A module that was called before and is named ahead may be called once more.

    Args:
        error: what ended the forward pass.
        paths: module → its paths.
    """
    found: set[str] = set()
    step = error.__traceback__
    while step is not None:
        frame = step.tb_frame
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        calling = code.co_filename == _CALLING  # torch's way to a forward pass, which names none
        if isinstance(owner, nn.Module) and owner in paths and not calling:
            names = _names_ahead(code, step.tb_lasti)
            found.update(join(paths[owner][0], name) for name in names & owner._modules.keys())
        step = step.tb_next
    return frozenset(found)


def _names_ahead(code: CodeType, offset: int) -> set[str]:
    """Names and texts in the code behind `offset`, and in the loops around it."""
    instructions = list(dis.get_instructions(code))
    begin = offset + 1
    for instruction in instructions:
        backward = "JUMP_BACKWARD" in instruction.opname and instruction.offset > offset
        if backward and instruction.argval <= offset:
            begin = min(begin, instruction.argval)
    names: set[str] = set()
    for instruction in instructions:
        if instruction.offset >= begin:
            value = instruction.argval
            if isinstance(value, str):
                names.add(value)
            elif isinstance(value, CodeType):
                names.update(value.co_names)
    return names
