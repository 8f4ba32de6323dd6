"""Trials composed late are those that the study began with, whatever was edited meanwhile."""

from __future__ import annotations

from pathlib import Path

from flowersweep.config.compose import compose_unchecked
from flowersweep.config.files import frozen_files


def test_an_edited_file_changes_no_trial_of_a_study_that_runs(project: Path) -> None:
    option = project / "conf" / "schedule" / "mine.yaml"
    option.parent.mkdir()
    option.write_text("_target_: cosine\nname: mine\nwarmup: 0.25\n")
    with frozen_files():
        option.write_text("_target_: cosine\nname: mine\nwarmup: 0.75\n")
        assert compose_unchecked(("schedule=mine", "seed=1")).schedule["warmup"] == 0.25
    assert compose_unchecked(("schedule=mine", "seed=2")).schedule["warmup"] == 0.75
