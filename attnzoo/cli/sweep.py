"""`attnzoo sweep`: every policy on every convolutional network of torchvision and timm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from attnzoo.cli.console import progress_console, show_table, working
from attnzoo.cli.options import given_path

__all__ = ["sweep"]


def sweep(
    pattern: Annotated[
        str,
        Parameter(metavar="NETWORKS", help="Which, in quotes: `'timm/resnet*'`."),
    ] = "*",
    /,
    *,
    out: Annotated[
        Path,
        Parameter(
            metavar="FILE",
            help="The table; networks that are in it are left alone.",
            converter=given_path,
        ),
    ] = Path("coverage.csv"),
    policy: Annotated[
        list[str] | None,
        Parameter(help="Only this policy; may be given several times.", show_default=False),
    ] = None,
    workers: Annotated[int, Parameter(help="Processes.")] = 2,
) -> None:
    """Try the policies on the networks of torchvision and timm."""
    with working("Listing the networks"):
        from attnzoo.sweep import POLICIES, summary
        from attnzoo.sweep import sweep as run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=progress_console(), transient=True) as bars:
            bar = bars.add_task("Starting", total=None)
            rows = run(
                out,
                pattern,
                policies=tuple(policy or POLICIES),
                workers=workers,
                watch=lambda done, total, name: bars.update(
                    bar, description=name, completed=done, total=total
                ),
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"What is done is in {out}; the same command goes on from there."
        ) from None
    headings = {"policy": "left", "library": "left", "kind": "left"}
    headings |= dict.fromkeys(("networks", "with places", "all held"), "right")
    lines = [
        [*key, str(tally.networks), str(tally.with_places), str(tally.ok)]
        for key, tally in summary(rows).items()
    ]
    show_table(f"{out}", headings, lines)
    real = [row for row in rows if row.result == "ok" and row.device == "cpu"]
    if real:
        slower = [row for row in real if row.wrap_seconds > row.build_seconds]
        print(
            f"\nTo build a network took {sum(r.build_seconds for r in real) / len(real):.3f} s on "
            f"average, to wrap it {sum(r.wrap_seconds for r in real) / len(real):.3f} s; wrapping "
            f"took longer on {len(slower)} of {len(real)} rows."
        )
    for row in rows:
        if row.result in ("refused", "broken", "not followed"):
            print(f"{row.result}: {row.model} {row.policy}: {row.reason}")
