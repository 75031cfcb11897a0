"""The runs of a study: their folders, who does them, and what came of them."""

from attnzoo.study.runs.attempt import Job, Outcome, data_of, forget_data
from attnzoo.study.runs.cluster import RayCluster
from attnzoo.study.runs.conduct import Engine, InProcess, conduct
from attnzoo.study.runs.failures import Failure, read_failures
from attnzoo.study.runs.folder import (
    DATA,
    DataRecord,
    damages,
    finished_runs,
    read_data,
    read_folder,
    run_folder,
    same_study,
    write_data,
    write_study,
)
from attnzoo.study.runs.forecast import forecast
from attnzoo.study.runs.identity import first_data, identified_study, study_changes
from attnzoo.study.runs.ours import FIGURES, STUDY, check_folder, remove, take, written
from attnzoo.study.runs.processes import Processes, shares_of_gpus
from attnzoo.study.runs.progress import StudyBars
from attnzoo.study.runs.record import (
    METRICS,
    Record,
    is_finished,
    put_damaged_aside,
    read_environment,
    read_run,
)
from attnzoo.study.runs.tracked import TRACKED, begin_tracking, run_tracking, tell_verdicts
from attnzoo.study.runs.writing import write_atomically

__all__ = [
    "DATA",
    "FIGURES",
    "METRICS",
    "STUDY",
    "TRACKED",
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
    "begin_tracking",
    "check_folder",
    "conduct",
    "damages",
    "data_of",
    "finished_runs",
    "first_data",
    "forecast",
    "forget_data",
    "identified_study",
    "is_finished",
    "put_damaged_aside",
    "read_data",
    "read_environment",
    "read_failures",
    "read_folder",
    "read_run",
    "remove",
    "run_folder",
    "run_tracking",
    "same_study",
    "shares_of_gpus",
    "study_changes",
    "take",
    "tell_verdicts",
    "write_atomically",
    "write_data",
    "write_study",
    "written",
]
