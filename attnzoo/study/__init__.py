"""Studies: backbones × attention × seeds, their runs, their statistics, their report."""

from attnzoo.study.check import Cell, check_study
from attnzoo.study.compare import write_comparison
from attnzoo.study.engine import StudyOutcome, run_study
from attnzoo.study.failures import Failure
from attnzoo.study.folder import Record, read_folder
from attnzoo.study.grid import Study
from attnzoo.study.reading import load_study, parse_study
from attnzoo.study.report import study_table, write_report, write_results
from attnzoo.study.stats import Difference, Summary, paired_difference, summarise
from attnzoo.study.variants import StudyVariant

__all__ = [
    "Cell",
    "Difference",
    "Failure",
    "Record",
    "Study",
    "StudyOutcome",
    "StudyVariant",
    "Summary",
    "check_study",
    "load_study",
    "paired_difference",
    "parse_study",
    "read_folder",
    "run_study",
    "study_table",
    "summarise",
    "write_comparison",
    "write_report",
    "write_results",
]
