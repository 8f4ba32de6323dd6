"""The pictures of a trial: drawn from what it trained with, for the trials that have something to
show.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorflow as tf

from flowersweep.config.compose import compose
from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config, Train
from flowersweep.runtime import compiles
from flowersweep.training import trial, trial_figures
from flowersweep.training.context import TrainingContext
from flowersweep.util.files import write_bytes
from tests.tiny import tiny

FINETUNE = tiny(
    train=Train(
        name="finetune",
        finetune=True,
        head_epochs=2,
        head_learning_rate=0.01,
        epochs=18,
        learning_rate=4e-4,
        batch_per_replica=8,
    ),
    augment=compose(["augment=strong"]).augment,
)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(
    config: Config, context: TrainingContext, folder: Path, *, best: bool = True
) -> ElementTree.Element:
    for name, content in trial_figures.draw_figures(config, context, best=best).items():
        write_bytes(folder / name, content)
    return ElementTree.fromstring((folder / "schedule.svg").read_text())


def rate_at(polyline: ElementTree.Element, share: float, largest: float) -> float:
    """Read the learning rate off a curve, as a person would."""
    x, y = np.array([point.split(",") for point in polyline.attrib["points"].split()], float).T
    bottom, top = trial_figures.HEIGHT - trial_figures.BOTTOM, trial_figures.TOP
    return float(
        largest * (bottom - np.interp(x[0] + share * (x[-1] - x[0]), x, y)) / (bottom - top)
    )


@pytest.mark.slow
def test_the_schedule_shows_both_stages_as_they_ran(
    context: TrainingContext, tmp_path: Path
) -> None:
    picture = drawn(FINETUNE, context, tmp_path)
    head, main = picture.iter(f"{SVG}polyline")
    assert [rate_at(head, share, 0.01) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.01] * 3)
    schedule = context.main_stage(FINETUNE).program.recipe.schedule
    for step in (0, 20, 36, 70):  # of 18 epochs of 5 steps
        numbers = trial.hyperparameters(FINETUNE, 10, 5)
        wanted = numbers["train"]["learning_rate"] * schedule(
            np.float32(step / numbers["train"]["steps"]), **numbers["schedule"]
        )
        assert rate_at(main, step / 90, 4e-4) == pytest.approx(float(wanted), abs=4e-4 * 0.01)
    said = [text.text for text in picture.iter(f"{SVG}text")]
    assert {
        "head, frozen backbone",
        "all layers",
        "epoch",
        "learning rate",
        "0.01",
        "0.0004",
        "2",
        "20",
    } <= set(said)


def test_a_frozen_training_has_one_panel_and_no_sheet(
    context: TrainingContext, tmp_path: Path
) -> None:
    picture = drawn(tiny(augment=FINETUNE.augment), context, tmp_path)
    assert len(list(picture.iter(f"{SVG}polyline"))) == 1
    assert "all layers" not in [text.text for text in picture.iter(f"{SVG}text")]
    assert [path.name for path in tmp_path.iterdir()] == ["schedule.svg"]


def test_a_rate_of_zero_can_be_drawn(context: TrainingContext, tmp_path: Path) -> None:
    (curve,) = drawn(
        tiny(train=Train(name="frozen", epochs=1, learning_rate=0.0)), context, tmp_path
    ).iter(f"{SVG}polyline")
    assert "nan" not in curve.attrib["points"]
    assert rate_at(curve, 0.5, 1.0) == pytest.approx(0.0)


def test_only_the_best_trial_so_far_has_a_sheet_of_what_its_augmentation_does(
    context: TrainingContext, tmp_path: Path
) -> None:
    drawn(FINETUNE, context, tmp_path, best=False)
    drawn(replace(FINETUNE, augment={"name": "none"}), context, tmp_path)
    assert not (tmp_path / "augmentation.jpg").exists()
    drawn(FINETUNE, context, tmp_path)
    strong = tf.io.decode_jpeg((tmp_path / "augmentation.jpg").read_bytes()).numpy().astype(float)
    # five classes, an image of each
    assert strong.shape == ((1 + trial_figures.ROWS) * 32, 5 * 32, 3)
    off = {
        f"augment.{name}": 0.0
        for name in (
            "flip",
            "crop",
            "aspect",
            "zoom",
            "shift",
            "rotation",
            "cutout",
            "mix_probability",
        )
    }
    drawn(
        with_settings(FINETUNE, {**off, "augment.hue": 0.0, "augment.saturation": 0.0}),
        context,
        tmp_path,
    )
    light = tf.io.decode_jpeg((tmp_path / "augmentation.jpg").read_bytes()).numpy().astype(float)
    originals, moved, lit = (
        sheet.reshape(1 + trial_figures.ROWS, 32, -1) for sheet in (strong, strong, light)
    )
    np.testing.assert_allclose(lit[0], originals[0], atol=40)  # JPEG
    assert np.abs(moved[1:] - moved[0]).mean() > 2 * np.abs(lit[1:] - lit[0]).mean() > 1


def test_the_pictures_of_trials_with_other_numbers_compile_nothing(
    context: TrainingContext, tmp_path: Path
) -> None:
    context.main_stage(FINETUNE)
    context.head_stage(FINETUNE)
    before = compiles()
    drawn(FINETUNE, context, tmp_path, best=False)  # not even the first, but for the sheet
    assert compiles() == before
    drawn(FINETUNE, context, tmp_path)
    before = compiles()
    changed = {
        "schedule.warmup": 0.3,
        "train.learning_rate": 1e-5,
        "train.epochs": 3,
        "augment.rotation": 3.0,
        "seed": 4,
    }
    drawn(with_settings(FINETUNE, changed), context, tmp_path)
    assert compiles() == before
