"""Write the page about a data set: what is wrong with it, and how it looks."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowersweep.config.keys import says
from flowersweep.config.schema import Config
from flowersweep.data.dataset import Dataset
from flowersweep.data.duplicates import Duplicates
from flowersweep.data.overview.headers import Headers, read_headers
from flowersweep.data.overview.passed_over import passed_over, unreadable
from flowersweep.data.overview.pictures import Place, contact_sheets, read_pictures
from flowersweep.errors import StudyError
from flowersweep.evaluation.label_issues import label_issues, out_of_fold_probabilities
from flowersweep.evaluation.scores import Labels
from flowersweep.report.images.sections import introduction, sections
from flowersweep.report.images.view import ImagesView, LabelCheck, ranked_pairs
from flowersweep.report.page import render, write_page
from flowersweep.tracking.masking import masked_text
from flowersweep.util.arrays import map_array

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]  # what, done, of how many
COMMAND = "python -m flowersweep"
UNCHECKED = (
    "Labels are checked with features of a backbone, and none of these images are cached yet. A "
    "training computes them. Run this, and then the command of this page again:"
)
TOO_MANY = "There are too many images and classes to check their labels in a minute."


def write_images_page(
    config: Config,
    words: Sequence[str],
    dataset: Dataset,
    duplicates: Duplicates,
    path: Path,
    progress: Progress,
) -> Path:
    """Write the page about a data set, whole or not at all.

    Args:
        config: Which images, and where the features are that labels are checked with.
        words: Of the command line, for the commands that the page names.
        dataset: The images, val apart from train.
        duplicates: Their near-duplicates.
        path: The page.
        progress: Is told what is done, and how much of it.
    """
    headers: dict[str, Headers] = {}
    for name, split in dataset.splits.items():
        headers[name] = read_headers(split, _counter(progress, f"headers of {name}", len(split)))
    view = ImagesView(
        dataset=dataset,
        headers=headers,
        pairs=ranked_pairs(dataset, duplicates),
        labels=_check_labels(dataset, Path(config.dir) / "cache" / "features"),
        check_command=_command("train", words, "data", "model", "dir", "trusted_modules"),
        passed_over=passed_over(config.data, dataset),
        unreadable=unreadable(dataset),
    )
    places = view.places()
    view = replace(
        view,
        pictures=read_pictures(dataset, places, _counter(progress, "pictures", len(places))),
        sheets=contact_sheets(dataset, _counter(progress, "contact sheets")),
    )
    title = f"Images in {Path(dataset.dir).name}"
    again = _command("data", words, "data", "dir", "output", "trusted_modules")
    page = sections(view, masked_text(dataset.dir), again)
    return write_page(path, render(masked_text(title), introduction(view), page))


def _counter(progress: Progress, what: str, total: int | None = None) -> Callable[[int], None]:
    return lambda done: progress(what, done, total)


def _command(verb: str, words: Sequence[str], *groups: str) -> str:
    """Return a command with those of the words that set something in ``groups``."""
    chosen = [word for word in words if says([word], *groups)]
    return masked_text(f"{COMMAND} {shlex.join([verb, *chosen])}")


def _check_labels(dataset: Dataset, cache: Path) -> LabelCheck | str:
    """Return the suspicious labels by cached features, or why they are not known."""
    for folder in _folders(dataset, cache):
        if (features := _features(dataset, folder)) is not None:
            break
    else:
        return UNCHECKED
    places: list[Place] = []
    labels: list[Labels] = []
    for name, split in dataset.splits.items():
        if split.labels is not None:
            places += [(name, row) for row in range(len(split))]
            labels.append(split.labels)
    truth = np.concatenate(labels)
    log.info("checking %d labels with the features in %s", len(truth), folder)
    chances = out_of_fold_probabilities(features, truth, len(dataset.classes))
    if chances is None:
        return TOO_MANY
    issues = [(places[issue.row], issue) for issue in label_issues(chances, truth)]
    accuracy = float((chances.argmax(axis=1) == truth).mean())
    return LabelCheck(issues, len(truth), accuracy, folder.name)


def _folders(dataset: Dataset, cache: Path) -> list[Path]:
    """Return the folders of features of the images: of their size first, then the latest."""
    return sorted(
        (folder for folder in cache.glob(f"{dataset.digest}-*") if folder.is_dir()),
        key=lambda folder: (
            not folder.name.startswith(f"{dataset.delivered}-"),
            -folder.stat().st_mtime_ns,
            folder.name,
        ),
    )


def _features(dataset: Dataset, folder: Path) -> np.ndarray | None:
    """Return the features (n, D) of all labelled images; None if some are not there."""
    parts: list[np.ndarray] = []
    for name, split in dataset.splits.items():
        if split.labels is None:
            continue
        try:
            parts.append(map_array(folder / f"{name}.npy"))
        except StudyError:
            return None
        if len(parts[-1]) != len(split):
            return None
    return np.concatenate(parts)
