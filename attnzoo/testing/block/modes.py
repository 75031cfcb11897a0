"""What a block does under autocast, and in eval mode."""

from __future__ import annotations

import itertools

import torch

from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import BreachError

__all__ = ["autocast", "evaluation"]


def autocast(subject: BlockSubject) -> None:
    """Large numbers stay finite under autocast, bf16 and fp16, and the dtype that of the input."""
    for lower, after_float in itertools.product((torch.bfloat16, torch.float16), (True, False)):
        dtype = torch.float32 if after_float else lower
        # 12×12 values of 1e3: their sum is past the range of float16, their mean is not
        shape = subject.fit(2, 64, 12, 12)
        block = subject.randomised(shape[1])
        noise, constant = 1e3 * torch.randn(shape), torch.full(shape, 1e3)
        for x, training in ((noise, True), (noise, False), (constant, True)):
            x = x.to(dtype, memory_format=torch.channels_last).requires_grad_()
            with torch.autocast("cpu", dtype=lower):
                y = block.train(training)(x)
            about = f"of a map of {dtype} under autocast to {lower}"
            if y.dtype != dtype:
                raise BreachError(f"makes {y.dtype} {about}")
            if not y.isfinite().all():
                raise BreachError(f"makes numbers that are not finite {about}")
            y.float().mean().backward()
            if x.grad is None or not x.grad.isfinite().all():
                raise BreachError(f"the gradient {about} is not finite")


@torch.no_grad()
def evaluation(subject: BlockSubject) -> None:
    """In eval mode nothing of the block changes, and images have nothing to do with each other."""
    shape = subject.fit(3, 8, 5, 7)
    block = subject.randomised(shape[1])
    block.train()(torch.randn(shape))  # statistics as no fresh block has them
    block.eval()
    before = {key: tensor.clone() for key, tensor in block.named_buffers()}
    x = torch.randn(shape)
    together = block(x)
    for path, tensor in block.named_buffers():
        if not torch.equal(tensor, before[path]):
            raise BreachError(f"buffer {path} changes in eval mode")
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(
        together,
        alone,
        rtol=1e-4,
        atol=1e-4 * max(1, together.abs().max().item()),
        msg=lambda text: f"an image's result depends on the others in its batch: {text}",
    )
