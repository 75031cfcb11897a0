"""Copies of a block compute what it computes."""

from __future__ import annotations

import copy
import io
import pickle

import torch

from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import BreachError, same_bits

__all__ = ["deepcopied", "pickled", "state_kept"]


def deepcopied(subject: BlockSubject) -> None:
    """`copy.deepcopy` gives a block of the same numbers that shares no tensor with it."""
    block, x = _at_hand(subject)
    other = copy.deepcopy(block)
    _compare(block, other, x)
    shared = {id(tensor) for tensor in block.state_dict(keep_vars=True).values()}
    if any(id(tensor) in shared for tensor in other.state_dict(keep_vars=True).values()):
        raise BreachError("the copy shares a parameter or buffer with the block")


def pickled(subject: BlockSubject) -> None:
    """`pickle` keeps the block, so that it goes to other processes."""
    block, x = _at_hand(subject)
    _compare(block, pickle.load(io.BytesIO(pickle.dumps(block))), x)


def state_kept(subject: BlockSubject) -> None:
    """The state dict of one block, loaded into another, makes it the same."""
    block, x = _at_hand(subject)
    other = subject.build(x.shape[1]).eval()
    other.load_state_dict(block.state_dict())
    _compare(block, other, x)


def _at_hand(subject: BlockSubject) -> tuple[torch.nn.Module, torch.Tensor]:
    shape = subject.fit(2, 8, 3, 3)
    block = subject.randomised(shape[1]).train()
    with torch.no_grad():
        block(torch.randn(shape))  # statistics as no fresh block has them
    return block.eval(), torch.randn(shape)


@torch.no_grad()
def _compare(block: torch.nn.Module, other: torch.nn.Module, x: torch.Tensor) -> None:
    if not same_bits(other(x), block(x)):
        raise BreachError("the copy computes something else")
