"""What checks of a contract come to: a row for each, in a table that prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from attnzoo.errors import ContractError

__all__ = ["Outcome", "Report", "Row"]

Outcome = Literal["passed", "failed", "exempt", "not run"]

#: Columns that a printed report takes.
_WIDTH = 100


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        check: its name.
        outcome: `passed`; `failed`; `exempt`: it failed, and a limit that is declared says so; or
            `not run`.
        detail: why, where there is something to say.
        seconds: that it took.
    """

    check: str
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """The checks of one block or policy. Print it for a table; it is false if a check failed.

    Attributes:
        subject: what was checked.
        rows: the checks, in the order in which they ran.
    """

    subject: str
    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.outcome == "failed")

    def __bool__(self) -> bool:
        return not self.failed

    def __getitem__(self, check: str) -> Row:
        return {row.check: row for row in self.rows}[check]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def summary(self) -> str:
        """How many checks came to what, in one line."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.outcome] = counts.get(row.outcome, 0) + 1
        return f"{self.subject}: {', '.join(f'{n} {outcome}' for outcome, n in counts.items())}"

    def raise_if_failed(self) -> None:
        """Raise `ContractError`, with every row that failed, if one did."""
        if self.failed:
            lines = [f"  {row.check}: {row.detail}" for row in self.failed]
            raise ContractError("\n".join([f"{self.summary}.", *lines]))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "subject": self.subject,
            "ok": bool(self),
            "rows": [asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        first = max((len(row.check) for row in self.rows), default=0)
        lines = [self.summary]
        for row in self.rows:
            head = f"  {row.check:<{first}}  {row.outcome:<7}  "
            body = f"{head}{row.detail}".rstrip()
            lines.append(textwrap.fill(body, _WIDTH, subsequent_indent=" " * len(head)))
        return "\n".join(lines)
