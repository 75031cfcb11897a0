"""One forward pass, written down: a model and an example in, a `Trace` out."""

from attnzoo.tracing.arguments import example_told, tell_arguments
from attnzoo.tracing.axes import STACKED
from attnzoo.tracing.counting import Count, count
from attnzoo.tracing.draws import own_draws
from attnzoo.tracing.example import default_input_size, model_dtype, resolve_example
from attnzoo.tracing.interrupts import answer, held
from attnzoo.tracing.meta_ops import FastShapes, Layout, layout_of, tensor_of
from attnzoo.tracing.nested import shapes_of
from attnzoo.tracing.on_meta import meta_forward
from attnzoo.tracing.parts import Call, Op, Value, qualname
from attnzoo.tracing.probe import checked_modules, follow, on_example, probe
from attnzoo.tracing.rounds import first_round
from attnzoo.tracing.sites import Site, Skipped, Where
from attnzoo.tracing.trace import LEVEL_RATIO, Trace
from attnzoo.tracing.twin import Twin
from attnzoo.tracing.undisturbed import undisturbed
from attnzoo.tracing.values import Values

__all__ = [
    "LEVEL_RATIO",
    "STACKED",
    "Call",
    "Count",
    "FastShapes",
    "Layout",
    "Op",
    "Site",
    "Skipped",
    "Trace",
    "Twin",
    "Value",
    "Values",
    "Where",
    "answer",
    "checked_modules",
    "count",
    "default_input_size",
    "example_told",
    "first_round",
    "follow",
    "held",
    "layout_of",
    "meta_forward",
    "model_dtype",
    "on_example",
    "own_draws",
    "probe",
    "qualname",
    "resolve_example",
    "shapes_of",
    "tell_arguments",
    "tensor_of",
    "undisturbed",
]
