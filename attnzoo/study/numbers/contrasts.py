"""The variants that answers are looked at of, and the pictures on which they differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from attnzoo.errors import StudyError
from attnzoo.study.definition import Study
from attnzoo.study.numbers.imagewise import Images, Pairs, Resampled, compared
from attnzoo.study.numbers.metrics import METRICS
from attnzoo.study.numbers.stats import Summary, study_summaries
from attnzoo.study.runs import Record, read_folder, write_atomically
from attnzoo.train import PREDICTIONS, Config, ImageData, Predictions, read_predictions

__all__ = [
    "CONTRASTS",
    "Answers",
    "Contrasts",
    "best_variants",
    "compare_images",
    "keep_contrasts",
    "read_answers",
    "read_contrasts",
]

CONTRASTS = "contrasts.json"
SHOWN = 8  # pictures of a kind
SIDE = 96  # pixels at most

Answers = Mapping[tuple[str, str], Mapping[int, Predictions]]
"""`(backbone, variant)` → seed → what the run answered."""


class Contrasts(Config):
    """Pictures on which variants differ, as `contrasts.json` keeps them.

    Attributes:
        pictures: place of a test image → its JPEG bytes in base64.
    """

    pictures: dict[int, str]


@dataclass(frozen=True)
class Best:
    """The variant of a backbone with the best mean, and plain."""

    backbone: str
    variant: str
    plain: str

    @property
    def names(self) -> tuple[str, str]:
        """Plain, and the variant."""
        return self.plain, self.variant


def read_answers(records: Iterable[Record]) -> Answers:
    """What the runs answered, as far as they kept it."""
    found: dict[tuple[str, str], dict[int, Predictions]] = {}
    for record in records:
        if PREDICTIONS in record.damaged:
            continue
        answers = read_predictions(record.folder / PREDICTIONS)
        if answers is not None:
            key = record.result.backbone, record.result.variant
            found.setdefault(key, {})[record.result.seed] = answers
    return found


def compare_images(
    rows: Sequence[Summary], answers: Answers, study: Study
) -> dict[tuple[str, str, str], Images]:
    """`(backbone, variant, baseline)` → the comparison over its images, where answers are kept."""
    runs = [found for by_seed in answers.values() for found in by_seed.values()]
    if not runs:
        return {}
    images = 1 + max(int(found.images.max()) for found in runs)
    resampled = Resampled(METRICS[study.metric], images, len(runs))
    compared_images = {}
    for row in rows:
        for difference in (row.difference, row.beyond):
            if difference is not None:
                pairs = _pairs(answers, row.backbone, row.variant, difference.baseline)
                if pairs:
                    key = row.backbone, row.variant, difference.baseline
                    compared_images[key] = compared(pairs, resampled)
    return compared_images


def _pairs(answers: Answers, backbone: str, variant: str, baseline: str) -> Pairs:
    ours, theirs = (answers.get((backbone, name), {}) for name in (variant, baseline))
    return {
        seed: (ours[seed], theirs[seed])
        for seed in ours
        if seed in theirs and (ours[seed].images == theirs[seed].images).all()
    }


def best_variants(rows: Sequence[Summary], study: Study, answers: Answers) -> list[Best]:
    """For each backbone, of the variants with attention whose answers are kept, the best."""
    found = []
    sign = METRICS[study.metric].sign
    for backbone in dict.fromkeys(row.backbone for row in rows):
        own = [
            row
            for row in rows
            if row.backbone == backbone
            and row.score is not None
            and row.difference is not None
            and row.variant not in study.control_titles
            and _pairs(answers, backbone, row.variant, row.difference.baseline)
        ]
        if own:
            best = max(own, key=lambda row: sign * (row.score or 0.0))
            assert best.difference is not None
            found.append(Best(backbone, best.variant, best.difference.baseline))
    return found


def keep_contrasts(study: Study, folder: Path, data: ImageData) -> None:
    """Leave in the study's folder the pictures that the best variant, or plain, alone has right."""
    _, records = read_folder(folder)
    answers = read_answers(records)
    rows = study_summaries(study, records)
    pictures: dict[int, str] = {}
    images = compare_images(rows, answers, study)
    for best in best_variants(rows, study, answers):
        found = images[best.backbone, best.variant, best.plain]
        for place in (*found.always[:SHOWN], *found.never[:SHOWN]):
            if place not in pictures:
                pictures[place] = _small(data, place)
    write_atomically(folder / CONTRASTS, Contrasts(pictures=pictures).model_dump_json())


def _small(data: ImageData, place: int) -> str:
    image = Image.fromarray(data.picture(place))
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=85)
    return base64.b64encode(out.getvalue()).decode()


def read_contrasts(folder: Path) -> Contrasts:
    """The pictures in a study's folder; none where it has none.

    Raises:
        StudyError: the file is damaged.
    """
    path = folder / CONTRASTS
    if not path.is_file():
        return Contrasts(pictures={})
    try:
        found = Contrasts.model_validate_json(path.read_text(encoding="utf-8"))
        for jpeg in found.pictures.values():
            with Image.open(io.BytesIO(base64.b64decode(jpeg))) as image:
                image.load()
    except Exception as error:  # image decoders raise whatever they come upon
        raise StudyError(
            f"{path} is damaged ({type(error).__name__}); `attnzoo ablate` writes it anew."
        ) from error
    return found
