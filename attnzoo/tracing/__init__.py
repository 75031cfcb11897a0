"""One forward pass, written down: a model and an example in, a `Trace` out."""

from attnzoo.tracing.counting import Count, count
from attnzoo.tracing.example import default_input_size, model_dtype, resolve_example
from attnzoo.tracing.garbage import collection_paused
from attnzoo.tracing.interrupts import held
from attnzoo.tracing.meta_ops import FastShapes, Layout, layout_of, tensor_of
from attnzoo.tracing.on_meta import meta_forward
from attnzoo.tracing.probe import checked_modules, follow, on_example, probe
from attnzoo.tracing.recorder import shapes_of
from attnzoo.tracing.sites import Site, Skipped, Where
from attnzoo.tracing.trace import LEVEL_RATIO, Call, Op, Trace, Value, qualname

__all__ = [
    "LEVEL_RATIO",
    "Call",
    "Count",
    "FastShapes",
    "Layout",
    "Op",
    "Site",
    "Skipped",
    "Trace",
    "Value",
    "Where",
    "checked_modules",
    "collection_paused",
    "count",
    "default_input_size",
    "follow",
    "held",
    "layout_of",
    "meta_forward",
    "model_dtype",
    "on_example",
    "probe",
    "qualname",
    "resolve_example",
    "shapes_of",
    "tensor_of",
]
