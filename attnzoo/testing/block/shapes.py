"""Any map in, a map of the same shape, dtype and memory format out, and the input left alone."""

from __future__ import annotations

import itertools

import torch

from attnzoo.testing.block.subject import BlockSubject, apply, tiny_numbers_are_zero
from attnzoo.testing.contract import BreachError, NotRunError, explain

__all__ = ["any_shape", "builds", "by_name", "dtypes", "input_kept"]

CHANNELS = (1, 3, 8, 17, 64, 96)
SIZES = ((1, 1), (1, 7), (7, 5), (14, 14), (56, 56))
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def builds(subject: BlockSubject) -> None:
    """A module is built with the options given."""
    block = subject.build(_channels(subject))
    if not isinstance(block, torch.nn.Module):
        raise BreachError(f"builds a {type(block).__name__}, not an nn.Module", excusable=False)


def by_name(subject: BlockSubject) -> None:
    """The name alone builds the block: every option has a default that works."""
    required = BlockSubject(subject.spec).missing
    if required:
        raise NotRunError(f"must be given: {', '.join(required)}")
    subject.spec.build(_channels(subject))


def _channels(subject: BlockSubject) -> int:
    try:
        return subject.fit(2, 64, 8, 8)[1]
    except NotRunError:
        return 64  # what is raised says why


@torch.no_grad()
@tiny_numbers_are_zero()
def any_shape(subject: BlockSubject) -> str | None:
    """Maps of any C, H and W of at least 1, one image or two, give finite maps of their shape."""
    refused: list[str] = []
    tried = 0
    for channels, training in itertools.product(CHANNELS, (True, False)):
        maps = list(itertools.product((1, 2), SIZES))
        tried += len(maps)
        try:
            block = subject.randomised(channels).train(training)
        except Exception as error:
            refused += [f"of {channels} channels ({explain(error)})"] * len(maps)
            continue
        for batch, size in maps:
            x = torch.randn(batch, channels, *size)
            try:
                apply(block, x)
            except BreachError:
                raise
            except Exception as error:
                mode = "training" if training else "eval"
                refused.append(f"{tuple(x.shape)} in {mode} mode ({explain(error)})")
    if refused:
        raise BreachError(f"refuses {len(refused)} of {tried} maps: {refused[0]}")
    return None


@torch.no_grad()
def input_kept(subject: BlockSubject) -> None:
    """The input is not changed in place: others read the same map."""
    for training, shape in itertools.product((True, False), ((2, 8, 5, 7), (1, 8, 1, 1))):
        x = torch.randn(subject.fit(*shape))
        before, version = x.clone(), x._version
        subject.randomised(x.shape[1]).train(training)(x)
        if x._version != version or not torch.equal(x, before):
            raise BreachError(
                f"changes a map of {tuple(x.shape)} in place; begin with an operation that makes a "
                f"new tensor"
            )


def dtypes(subject: BlockSubject) -> None:
    """The dtype and the memory format (channels last or not) of the map are kept."""
    for dtype in DTYPES:
        shape = subject.fit(2, 8, 5, 7)
        block = subject.randomised(shape[1]).to(dtype)
        # A block that draws numbers in training draws them in the order of the memory.
        block.train("determinism" not in subject.limits)
        x = torch.randn(shape, dtype=dtype)
        made = {}
        for memory in (torch.contiguous_format, torch.channels_last):
            made[memory] = y = block(x.contiguous(memory_format=memory))
            if y.dtype != dtype:
                raise BreachError(f"turns {dtype} into {y.dtype}")
            if not y.is_contiguous(memory_format=memory):
                raise BreachError(f"does not keep {memory}, in {dtype}")
        y, last = made.values()
        # the formats round at different places, by parts of the largest value
        torch.testing.assert_close(
            last,
            y,
            rtol=0.05,
            atol=0.05 * max(1, y.abs().max().item()),
            msg=lambda text, dtype=dtype: f"channels last gives other numbers, in {dtype}: {text}",
        )
