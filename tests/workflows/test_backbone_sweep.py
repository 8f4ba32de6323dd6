"""Frozen backbones are ranked by what they reach and by what they cost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.compose import compose
from flowersweep.errors import ConfigError
from flowersweep.study.journal import read_events
from flowersweep.study.records import StudyRecord
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import make_room
from tests.conftest import TINY, Command
from tests.tiny import tiny


def test_the_features_used_longest_ago_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "middle", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.npy").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    make_room(tmp_path, 300, {tmp_path / "middle"})
    assert len([*tmp_path.iterdir()]) == 3
    make_room(tmp_path, 250, {tmp_path / "middle"})
    assert {each.name for each in tmp_path.iterdir()} == {"newest", "middle"}
    make_room(tmp_path, 0, {tmp_path / "newest"})
    assert {each.name for each in tmp_path.iterdir()} == {"newest"}


def test_costs_are_measured_once_a_backbone(context: TrainingContext) -> None:
    config = tiny()
    context.precompute_features(config)
    first, again = context.costs(config), context.costs(config)
    assert first == again
    assert first["images_per_s"] > 0
    assert first["parameters"] == context.classifier(config).model.count_params()


@pytest.mark.parametrize("wrong", ["[images_per_s,tune/nll]", "[tune/nll,speed]"])
def test_a_cost_is_no_first_objective(wrong: str) -> None:
    with pytest.raises(ConfigError, match="time, images_per_s, parameters must not be the first"):
        compose([f"sweep.objectives={wrong}"])


def test_hosts_that_train_together_have_no_images_per_second() -> None:
    words = ["sweep.objectives=[tune/nll,images_per_s]", "distributed.coordinator=a:1"]
    with pytest.raises(ConfigError, match="images_per_s is measured on one host"):
        compose([*words, "distributed.hosts=2"])


@pytest.mark.slow
def test_a_sweep_over_backbones_and_image_sizes_gives_a_front(
    command: Command, project: Path
) -> None:
    sizes = 'sweep.space.image_size.values="choice(16, 32)"'
    models = 'sweep.space.model.values="choice(tiny, efficientnet_lite0)"'
    words = ["+sweep=backbone", models, sizes, "sweep.n_trials=4", "tracking.enabled=false"]
    done = command(*words, TINY[0], "train.epochs=2", "train.min_head_steps=20")
    assert done.returncode == 0, done.stderr
    assert "complete, on the front" in done.stdout
    assert "images_per_s" in done.stdout
    events = read_events(project / "mlruns" / "studies" / "backbone" / "journal.jsonl")[0]
    trials = StudyRecord(events).trials
    assert {trial.params["image_size"] for trial in trials} == {16, 32}
    assert np.all([trial.metrics["images_per_s"] > 0 for trial in trials])
    assert len([*(project / "mlruns" / "cache" / "features").iterdir()]) == 4
