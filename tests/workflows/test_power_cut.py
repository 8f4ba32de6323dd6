"""The power is cut while a study runs: the same command makes the same study of what is left."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowersweep.__main__ import main
from tests.conftest import TINY
from tests.events import lines, story
from tests.kills.power_cut import Build, PowerCuts

WORDS = [
    "+sweep=smoothing",
    "study=flowers",
    "sweep.n_trials=3",
    "sampler.n_startup_trials=2",
    "train.checkpoint_interval_s=0",
    "tracking.enabled=false",
    *TINY,
]
SAMPLE = 2  # cuts of the fast test


EVERY = 5  # cut, of which a seed takes one


@pytest.fixture
def cuts(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Build]]]:
    """All cuts of a small study, which lies in ``whole`` afterwards."""
    (project / "whole").mkdir()
    power = PowerCuts(project / "whole")
    with monkeypatch.context() as patch:
        power.record(patch)
        assert main([*WORDS, "dir=whole"]) == 0
    yield power.cuts
    power.close()


def require_same(cut: tuple[str, Build]) -> None:
    """Go on after a cut, and compare with the study that was never cut."""
    when, build = cut
    shutil.rmtree("cut", ignore_errors=True)
    build(Path("cut"))
    assert main([*WORDS, "dir=cut"]) == 0, when
    whole, after = (Path(dir, "studies", "flowers") for dir in ("whole", "cut"))
    assert story(after) == story(whole), when
    assert lines(after)[-1]["best"] == lines(whole)[-1]["best"], when
    for file in whole.rglob("*.npz"):
        with np.load(file) as one, np.load(after / file.relative_to(whole)) as other:
            for name in one.files:
                if name != "about":  # holds times
                    np.testing.assert_array_equal(one[name], other[name], err_msg=when)


def test_a_study_goes_on_after_a_power_cut(cuts: list[tuple[str, Build]], kill_seed: int) -> None:
    assert len(cuts) > 40
    for cut in random.Random(kill_seed).sample(cuts, SAMPLE):
        require_same(cut)


@pytest.mark.slow
def test_a_study_goes_on_after_a_power_cut_at_any_moment(
    cuts: list[tuple[str, Build]], kill_seed: int
) -> None:
    for cut in cuts[kill_seed % EVERY :: EVERY]:  # five seeds cut at all moments, in 7 minutes
        require_same(cut)
