"""What a reader gets: tables, figures, pages."""

from attnzoo.study.report.compare import write_comparison
from attnzoo.study.report.export import export_study
from attnzoo.study.report.report import study_table, write_report, write_results

__all__ = [
    "export_study",
    "study_table",
    "write_comparison",
    "write_report",
    "write_results",
]
