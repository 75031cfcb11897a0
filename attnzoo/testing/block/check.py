"""The contract of a block, check by check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from attnzoo.registry import Limit
from attnzoo.testing.block import (
    copies,
    declared,
    formulas,
    gradients,
    modes,
    network,
    programs,
    shapes,
)
from attnzoo.testing.block.subject import BlockSubject
from attnzoo.testing.contract import Check, attempt, choose
from attnzoo.testing.report import Report, Row

__all__ = ["BLOCK_CHECKS", "check_block", "run_checks"]

_BUILDS: Check[BlockSubject] = Check("builds", shapes.builds, ("options",))

#: Name → check, in the order in which they run. A check's first limit is the one that it shows.
BLOCK_CHECKS: Mapping[str, Check[BlockSubject]] = {
    check.name: check
    for check in (
        _BUILDS,
        Check("by name", shapes.by_name, ("options", "shapes")),
        Check("options", declared.options),
        Check("shapes", shapes.any_shape, ("shapes",)),
        Check("input kept", shapes.input_kept),
        Check("dtypes", shapes.dtypes),
        Check("autocast", modes.autocast),
        Check("eval mode", modes.evaluation),
        Check("gradients", gradients.every_parameter),
        Check("gradcheck", gradients.numerical),
        Check("determinism", gradients.deterministic, ("determinism",)),
        Check("determinism on CUDA", gradients.cuda, ("determinism",)),
        Check("maps", declared.maps, ("maps",)),
        Check("identity at init", declared.identity),
        Check("neutral start", declared.neutral, ("neutral",)),
        Check("formulas", formulas.formulas),
        Check("deepcopy", copies.deepcopied),
        Check("pickle", copies.pickled),
        Check("state dict", copies.state_kept),
        Check("network", network.in_network),
        Check("compile", programs.compiled, ("compile",)),
        Check("export", programs.exported, ("export",)),
        Check("onnx", programs.onnx, ("onnx", "export")),
    )
}


def check_block(
    block: str | Callable[..., nn.Module],
    *,
    checks: Iterable[str] | None = None,
    **options: Any,
) -> Report:
    """Whether a block keeps the contract that every block of attnzoo keeps.

    What is checked: maps of any shape, dtype and memory format; the input left alone; gradients
    that reach everything, are right, and are the same in every run; autocast; train and eval mode;
    the maps, the start and the options as declared and documented; the docstring's formulas for
    parameters and MACs; copies; a network that it is put into and taken out of; `torch.compile`,
    `torch.export` and, where onnx, onnxscript and onnxruntime are installed, ONNX.

    A limit that `register_block` was given exempts what it names, and nothing else; a limit that
    no longer holds fails. A check that raises is a row that failed. Nothing is changed: not the
    random state, not the registry.

    Args:
        block: a registered name, or a class or function called as `block(channels, **options)`.
            Of one that is not registered, what only the registry knows is not checked.
        checks: names of those to run, from `BLOCK_CHECKS`; by default all. `compile`, `export` and
            `onnx` take the longest.
        **options: of the block. Formulas are for the default options and checked with them.

    Raises:
        UnknownNameError: no such block; the closest names are listed.
        OptionError: no such check.

    Example:
        >>> import attnzoo.testing
        >>> report = attnzoo.testing.check_block("se", checks=["shapes", "gradients"], reduction=8)
        >>> print(report)
        block 'se', reduction=8: 2 passed
          shapes     passed
          gradients  passed
        >>> report.raise_if_failed()
    """
    chosen = choose("check_block", BLOCK_CHECKS, checks)
    return run_checks(BlockSubject.of(block, options), chosen)


def run_checks(subject: BlockSubject, chosen: Iterable[Check[BlockSubject]]) -> Report:
    """A row for each check that is chosen, then one for each limit that they show."""
    chosen, limits = list(chosen), subject.limits
    rows = [attempt(check, subject, limits) for check in chosen]
    if any(row.outcome == "failed" for row in rows):
        built = attempt(_BUILDS, subject, limits)
        if built.outcome != "passed":  # nothing else can tell more than that
            return Report(str(subject), (built, *_not_built(rows)))
    outcomes = {row.check: row for row in rows}
    rows += [_limit(subject, limit, outcomes) for limit in _shown(subject, chosen)]
    return Report(str(subject), tuple(rows))


def _not_built(rows: list[Row]) -> list[Row]:
    others = [row for row in rows if row.check != _BUILDS.name]
    reason = "it cannot be built with these options"
    return [Row(row.check, "not run", reason) if row.outcome == "failed" else row for row in others]


def _shown(subject: BlockSubject, chosen: list[Check[BlockSubject]]) -> list[Limit]:
    """The limits of which every check that shows them is run; those of a tool have none here."""
    showing = {limit: _showing(limit) for limit in subject.spec.limits}
    return [limit for limit, checks in showing.items() if checks and set(checks) <= set(chosen)]


def _showing(limit: Limit) -> list[Check[BlockSubject]]:
    showing = (check for check in BLOCK_CHECKS.values() if check is not _BUILDS)
    return [check for check in showing if check.limits[:1] == (limit,)]


def _limit(subject: BlockSubject, limit: Limit, outcomes: Mapping[str, Row]) -> Row:
    """Whether what a limit exempts does fail."""
    name, spec = f"limit: {limit}", subject.spec
    given = ""
    if limit not in subject.limits:  # the options at hand are not those that show it
        options = {**subject.options, **spec.limited_with[limit]}
        given = " with " + ", ".join(f"{option}={value!r}" for option, value in options.items())
        other = BlockSubject(spec, options, subject.registered)
        outcomes = {c.name: attempt(c, other, spec.limits) for c in _showing(limit)}
    found = [outcomes[check.name] for check in _showing(limit)]
    names = ", ".join(row.check for row in found)
    if any(row.outcome == "exempt" for row in found):
        return Row(name, "passed", f"it holds{given}")
    if any(row.outcome != "passed" for row in found):
        return Row(name, "not run", f"nothing shows it: {names}")
    passed = f"{names} passed{given}"
    return Row(name, "failed", f"{passed}: the limit no longer holds, take it out")
