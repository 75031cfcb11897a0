"""What `--check` shows: every check of a contract, and whether all of them passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from attnzoo.cli.console import show_json, show_table
from attnzoo.errors import ContractError

if TYPE_CHECKING:
    from attnzoo.testing import Report

__all__ = ["CHECK", "Check", "show_reports"]

CHECK = Group("Contract", sort_key=1)

Check = Annotated[
    bool,
    Parameter(
        help="Check that it keeps the contract, instead of listing it; the exit code is 1 if not.",
        group=CHECK,
        show_default=False,
    ),
]


def show_reports(reports: Sequence[Report], *, json: bool) -> None:
    """Print reports on stdout.

    Raises:
        ContractError: a check failed.
    """
    if json:
        show_json([report.to_dict() for report in reports])
    else:
        columns = {"check": "left", "outcome": "left", "": "fold"}
        for report in reports:
            rows = [[row.check, row.outcome, row.detail] for row in report]
            show_table(report.summary, columns, rows)
    failed = [report.summary for report in reports if not report]
    if failed:
        raise ContractError("; ".join(failed))
