"""What a reader gets: tables, figures, pages."""

from attnzoo.study.report.compare import write_comparison
from attnzoo.study.report.export import export_study
from attnzoo.study.report.publishing import publish_study
from attnzoo.study.report.report import study_table, write_report, write_results
from attnzoo.study.report.side_by_side import SideBySide, runs_in, side_by_side, write_runs

__all__ = [
    "SideBySide",
    "export_study",
    "publish_study",
    "runs_in",
    "side_by_side",
    "study_table",
    "write_comparison",
    "write_report",
    "write_results",
    "write_runs",
]
