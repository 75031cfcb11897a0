"""Which layer went wrong first, where a loss stopped being a number.

The training falls back on its last kept state and takes the steps from there again. The last two
of them are looked at layer by layer: a gradient that overflows in one step shows in the loss of
the next. On a CPU the steps repeat bit for bit, on accelerators nearly.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from attnzoo.hosts import Attention
from attnzoo.train.devices import all_gathered
from attnzoo.train.session import Session
from attnzoo.train.state import Keeper, capture, restore

__all__ = ["Finding", "find_first_fault"]

LOOKED_AT = 2  # steps


@dataclass(frozen=True)
class Finding:
    """What went wrong first.

    Attributes:
        where: path and class of the module, or `"the images"`.
        what: `"output"`, `"gradient"` or `"weights"`, and of which parameter.
        value: `"nan"` or `"inf"`.
        step: counted from the start of the training, from 1.
    """

    where: str
    what: str
    value: str
    step: int

    def __str__(self) -> str:
        if not self.what:
            return f"{self.where} of step {self.step} held {self.value} already"
        return f"first at {self.where}, whose {self.what} held {self.value} in step {self.step}"


def find_first_fault(session: Session, keeper: Keeper, step: int) -> Finding | None:
    """What went wrong first, up to the step at which the loss was no number.

    The training is left before that: with the last good weights. Where nothing goes wrong this
    time, it is left as it was kept last, and the answer is None.

    Args:
        session: of the training.
        keeper: its copies.
        step: the step, counted from the start of the training, from 1.
    """
    keeper.fall_back()
    finding = _repeat(session, step)
    if finding is None:
        keeper.fall_back()
    return finding


def _repeat(session: Session, step: int) -> Finding | None:
    session.train_mode()
    batches = session.batches()
    while session.updates < step:
        if session.progress.step == session.steps:
            session.share_statistics()  # as the test between the epochs did
            session.next_epoch()
            batches = session.batches()
        if session.updates < step - LOOKED_AT:
            session.step(batches)
            continue
        before = capture(session)
        finding = _looked_at(session, batches)
        found = [found for found in all_gathered(session.fabric, finding) if found]
        if found:
            restore(session, before)
            # What one process meets in its images reaches the others by the weights.
            return min(found, key=lambda finding: finding.what.startswith("weights"))
    return None


def _looked_at(session: Session, batches: Iterator[Any]) -> Finding | None:
    """One step, and the first fault in it."""
    number = session.updates + 1
    found: list[tuple[str, str, str]] = []
    with _watching(session.model, found):
        session.backward(_checked(batches, found))
    session.update()
    if not found:
        for path, parameter in session.model.named_parameters():
            value = _fault(parameter)
            if value:
                found.append((*_place(session.model, path), value))
                break
    return Finding(*found[0], number) if found else None


def _checked(batches: Iterator[Any], found: list[tuple[str, str, str]]) -> Iterator[Any]:
    for images, labels in batches:
        value = _fault(images)
        if value:
            found.append(("the images", "", value))
        yield images, labels


@contextmanager
def _watching(model: nn.Module, found: list[tuple[str, str, str]]) -> Generator[None]:
    """Note the first output, else the first gradient, that is no number."""

    def output_hook(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for tensor in tree_leaves(output) if not found else ():
                value = _fault(tensor)
                if value:
                    found.append((_named(model, path), "output", value))
                    return

        return hook

    def gradient_hook(path: str) -> Any:
        def hook(parameter: Tensor) -> None:
            value = None if found or parameter.grad is None else _fault(parameter.grad)
            if value:
                where, what = _place(model, path)
                found.append((where, what.replace("weights", "gradient"), value))

        return hook

    handles = [
        module.register_forward_hook(output_hook(path)) for path, module in model.named_modules()
    ]
    handles += [
        parameter.register_post_accumulate_grad_hook(gradient_hook(path))
        for path, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fault(value: Any) -> str | None:
    """`"nan"` or `"inf"`, or None where all is well or there is nothing to be wrong."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    local = getattr(value, "to_local", None)
    tensor = value.detach() if local is None else local()
    if bool(torch.isfinite(tensor).all()):
        return None
    return "nan" if bool(tensor.isnan().any()) else "inf"


def _place(model: nn.Module, parameter: str) -> tuple[str, str]:
    path, _, name = parameter.rpartition(".")
    return _named(model, path), f"weights ({name})"


def _named(model: nn.Module, path: str) -> str:
    """Path and class, and in which attention it is, if in one."""
    around = ""
    for index in range(len(parts := path.split("."))):
        module = model.get_submodule(".".join(parts[: index + 1]))
        if isinstance(module, Attention):
            around = f", in the attention {module.name!r}"
    name = type(model.get_submodule(path)).__name__
    return f"{path or 'the network'} ({name}{around})"
