"""torch.compile, torch.export and ONNX."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import torch

from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import BreachError, NotRunError

__all__ = ["compiled", "exported", "onnx"]


def compiled(subject: BlockSubject) -> None:
    """`torch.compile` takes it without a graph break, in both modes, at several sizes."""
    first, second = subject.fit(2, 8, 5, 7), subject.fit(2, 8, 6, 4)
    block = subject.randomised(first[1])
    torch.compiler.reset()
    program = torch.compile(block, fullgraph=True, backend="eager", dynamic=True)
    for training in (True, False):
        block.train(training)
        for shape in (first, second):
            x = torch.randn(shape, requires_grad=True)
            made = []
            for module in (program, block):
                torch.manual_seed(0)  # for blocks that draw numbers
                made.append(module(x))
            torch.testing.assert_close(*made)
    x = torch.randn(second, requires_grad=True)
    program(x).sum().backward()
    if x.grad is None or not x.grad.isfinite().all():
        raise BreachError("the gradient of the compiled block is not finite")


def exported(subject: BlockSubject) -> None:
    """`torch.export` gives a program for any batch, height and width."""
    block, program = subject.exported
    module = program.module()
    for shape in subject.others_of(((3, 8, 9, 5), (1, 8, 1, 7), (1, 8, 1, 1))):
        x = torch.randn(shape)
        torch.testing.assert_close(module(x), block(x))


def onnx(subject: BlockSubject) -> None:
    """ONNX Runtime computes the same, at any batch, height and width."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
    if missing:
        raise NotRunError(f"not installed: {', '.join(missing)}")
    import onnxruntime

    block, program = subject.exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
    if converted is None:
        raise BreachError("torch.onnx.export returns nothing")
    session = onnxruntime.InferenceSession(
        converted.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for shape in subject.others_of(((3, 8, 5, 9), (1, 8, 1, 1))):
        x = torch.randn(shape)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), block(x), rtol=1e-5, atol=1e-5)
