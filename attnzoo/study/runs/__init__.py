"""The runs of a study: their folders, who does them, and what came of them."""

from attnzoo.study.runs.attempt import Job, Outcome, data_of
from attnzoo.study.runs.cluster import RayCluster
from attnzoo.study.runs.conduct import Engine, InProcess, conduct
from attnzoo.study.runs.failures import Failure, read_failures
from attnzoo.study.runs.folder import (
    STUDY,
    DataRecord,
    Record,
    finished_runs,
    is_finished,
    read_data,
    read_folder,
    read_run,
    run_folder,
    same_study,
    write_atomically,
    write_data,
    write_study,
)
from attnzoo.study.runs.forecast import forecast
from attnzoo.study.runs.processes import Processes, shares_of_gpus
from attnzoo.study.runs.progress import StudyBars

__all__ = [
    "STUDY",
    "DataRecord",
    "Engine",
    "Failure",
    "InProcess",
    "Job",
    "Outcome",
    "Processes",
    "RayCluster",
    "Record",
    "StudyBars",
    "conduct",
    "data_of",
    "finished_runs",
    "forecast",
    "is_finished",
    "read_data",
    "read_failures",
    "read_folder",
    "read_run",
    "run_folder",
    "same_study",
    "shares_of_gpus",
    "write_atomically",
    "write_data",
    "write_study",
]
