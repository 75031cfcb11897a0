"""From a study's YAML file to a checked `Study`."""

from attnzoo.study.definition.check import Cell, check_study
from attnzoo.study.definition.grid import Correction, Metric, Study, digest_keys, study_yaml
from attnzoo.study.definition.reading import load_study, parse_study
from attnzoo.study.definition.variants import StudyVariant

__all__ = [
    "Cell",
    "Correction",
    "Metric",
    "Study",
    "StudyVariant",
    "check_study",
    "digest_keys",
    "load_study",
    "parse_study",
    "study_yaml",
]
