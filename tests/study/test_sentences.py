"""What a study says of its images."""

from __future__ import annotations

import pytest

from flowersweep.study.events import StudyStarted
from flowersweep.study.sentences import describe_cut


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ([], None),
        (
            ["test", "val"],
            "cut from train, by chance within each class: 12 images for test "
            "(data.test_fraction=0.1), 1 image for val (data.val_fraction=0.2); train keeps 96",
        ),
    ],
)
def test_a_study_says_what_was_cut_from_train(cut: list[str], said: str | None) -> None:
    started = StudyStarted(
        study="s",
        experiment="s",
        seed=0,
        config={"data": {"val_fraction": 0.2, "test_fraction": 0.1}},
        overrides=[],
        objective="tune/nll",
        direction="minimize",
        space={},
        settings={},
        provenance={"data": {"counts": {"train": 96, "val": 1, "test": 12}, "cut": cut}},
    )
    assert describe_cut(started) == said
