"""The pictures that a trial saves with its logits: how its learning rate ran, and what
augmentation showed the network.

Both are made where the trial is trained and lie in its folder, since the shipper knows the journal
alone. The schedule is text, made in under a millisecond for every complete trial. The sheet of
augmented images is drawn by the augmentation itself, which compiles once for it; only a trial that
trained on such images and is the best so far has one, about log n of n trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flowersweep.config.schema import Experiment
from flowersweep.data.images import Images, compress
from flowersweep.data.pipeline import read_images
from flowersweep.training import trial
from flowersweep.training.augment import augment
from flowersweep.training.augment.sheet import grid
from flowersweep.training.context import TrainingContext
from flowersweep.training.schedules import curve

SCHEDULE, AUGMENTATION = "schedule.svg", "augmentation.jpg"
WIDTH, HEIGHT = 640, 260  # of the schedule, in pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 26, 40  # margins of a panel, which hold its labels
# pixels at most of an image on the sheet: our strengths are relative to the side, so a small image
# shows the same
SIDE = 96
COLUMNS, ROWS = 8, 3  # images, and draws of each


@dataclass(frozen=True)
class StageSchedule:
    """How the learning rate ran in one stage."""

    title: str
    begin: int  # epochs done before the stage
    end: int  # and after it
    rates: np.ndarray  # at even distances from begin to end


def draw_figures(config: Experiment, context: TrainingContext, *, best: bool) -> dict[str, bytes]:
    """Return the pictures of a trial by name: the schedule and, if it is the best so far, the
    augmentation.
    """
    figures = {SCHEDULE: schedule(stage_schedules(config, context)).encode()}
    if best and (sheet := augmentation(config, context)) is not None:
        figures[AUGMENTATION] = compress(sheet)
    return figures


def stage_schedules(config: Experiment, context: TrainingContext) -> list[StageSchedule]:
    """Return the course of the learning rate stage by stage, from the very functions and numbers of
    the step.
    """
    whole, head = config.train.all_epochs, config.train.all_epochs - config.train.epochs
    curves = []
    for begin, end in pairwise(sorted({0, head, whole})):
        stage, _ = trial.stage_at(config, begin, context)
        numbers = trial.hyperparameters(config, begin, 1, context.runtime.replicas)
        title = "all layers" if config.train.finetune and begin == head else "head, frozen backbone"
        rates = numbers["train"]["learning_rate"] * curve(
            stage.program.recipe.schedule, numbers["schedule"]
        )
        curves.append(StageSchedule(title, begin, end, rates))
    return curves


def schedule(stages: Sequence[StageSchedule]) -> str:
    """Return an SVG of the learning rate by epoch: a panel a stage, each with a scale of its own
    from 0 to its largest rate.
    """
    shares = [1.0] if len(stages) == 1 else [0.36, 0.64]
    edges = np.cumsum([0.0, *shares]) * WIDTH
    parts = [
        part
        for stage, (left, right) in zip(stages, pairwise(edges), strict=True)
        for part in _panel(stage, left, right)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" '
            'font-family="sans-serif" font-size="11" fill="#333">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(stage: StageSchedule, left: float, right: float) -> Iterator[str]:
    left, right, bottom = left + LEFT, right - RIGHT, HEIGHT - BOTTOM
    top_rate = float(stage.rates.max()) or 1.0
    across = np.linspace(left, right, len(stage.rates))
    down = bottom - (bottom - TOP) * stage.rates / top_rate
    yield f'<text x="{left:.0f}" y="{TOP - 10}" font-weight="bold">{stage.title}</text>'
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - (bottom - TOP) * share
        yield f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield (
            f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" '
            f'text-anchor="end">{top_rate * share:.3g}</text>'
        )
    every = next(
        step
        for size in (1, 10, 100, 1000, 10**4, 10**5)
        for step in (size, 2 * size, 5 * size)
        if stage.end - stage.begin <= 8 * step
    )
    for epoch in sorted(
        {stage.begin, stage.end, *range(-(-stage.begin // every) * every, stage.end, every)}
    ):
        x = left + (right - left) * (epoch - stage.begin) / (stage.end - stage.begin)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#333"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{epoch}</text>'
    yield f'<text x="{(left + right) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">epoch</text>'
    transform = f"translate({left - LEFT + 12:.1f} {(TOP + bottom) / 2:.1f}) rotate(-90)"
    yield f'<text transform="{transform}" text-anchor="middle">learning rate</text>'
    points = " ".join(
        f"{x:.1f},{y:.1f}" for x, y in zip(across.tolist(), down.tolist(), strict=True)
    )
    yield f'<polyline points="{points}" fill="none" stroke="#1f77b4" stroke-width="2"/>'


def augmentation(config: Experiment, context: TrainingContext) -> Images | None:
    """Return training images of several classes, and under each how a trial's augmentation changed
    it; None if it trained on none such.
    """
    change = context.main_stage(config).program.recipe.augment
    if change is None:
        return None
    dataset = context.dataset(config.data)
    train, scale = (
        dataset.splits["train"],
        min(1.0, SIDE / max(dataset.image_size)) if change is augment else 1.0,
    )
    assert train.labels is not None
    # one image a class, of the first ones, which are soon read
    _, first = np.unique(train.labels[:256], return_index=True)
    height, width = (round(side * scale) for side in dataset.image_size)
    images = read_images(train, np.sort(first[:COLUMNS]), (height, width))
    strengths = trial.hyperparameters(config, config.train.all_epochs - 1, 1)["augment"]
    return grid(config.seed, images, strengths, ROWS, change)
