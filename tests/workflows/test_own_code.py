"""A user's own callables, from a module of the working directory, in every slot of a trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY, Command

OWN = """
import keras, optuna
from flowersweep.testing import tiny_backbone

def backbone(**arguments):
    return tiny_backbone(**arguments)

def centred(images):
    return images - 127.0

def sampler(seed):
    return optuna.samplers.RandomSampler(seed=seed)

def loss(logits, targets, *, scale):
    return scale * keras.losses.categorical_crossentropy(targets, logits, from_logits=True).mean()
"""


@pytest.mark.slow
def test_a_sweep_runs_on_the_users_own_backbone_preprocessing_sampler_and_loss(
    project: Path, command: Command
) -> None:
    (project / "mine.py").write_text(OWN)
    for group, text in {
        "model": (
            "name: own\nbackbone: {_target_: mine.backbone}\npreprocess: {_target_: "
            "mine.centred}\nweights: none\n"
        ),
        "sampler": "name: own\n_target_: mine.sampler\n",
        "loss": "name: own\n_target_: mine.loss\nscale: 1.0\n",
    }.items():
        (project / "conf" / group).mkdir(exist_ok=True)
        (project / "conf" / group / "own.yaml").write_text(text)
    (project / "sweeps").mkdir()
    (project / "sweeps" / "own.yaml").write_text(
        "sweep: {n_trials: 2, space: {scale: {path: loss.scale, values: 'interval(0.5, 2)'}}}\n"
    )
    words = ["+sweep=own", *TINY, "model=own", "sampler=own", "loss=own"]
    words += ["train.min_head_steps=300", "train.learning_rate=0.02"]  # better than chance
    refused = command(*words)
    assert refused.returncode == 1
    assert "trusted_modules=[mine]" in refused.stderr
    (project / "conf" / "loss" / "wrong.yaml").write_text(
        "name: wrong\n_target_: mine.loss\nscale: 1.0\nscael: 1.0\n"
    )
    (project / "sweeps" / "wrong.yaml").write_text(
        "sweep: {space: {loss: {path: loss, values: 'choice(smoothed_cross_entropy, wrong)'}}}\n"
    )
    for chosen in (["+sweep=own", "loss=wrong"], ["+sweep=wrong"]):
        wrong = command(*chosen, *TINY, "model=own", "trusted_modules=[mine]")
        assert (wrong.returncode, "mine.loss" in wrong.stderr, "'scael'" in wrong.stderr) == (
            1,
            True,
            True,
        ), wrong.stderr
    assert not list(project.rglob("journal.jsonl"))
    run = command(*words, "trusted_modules=[mine]")
    assert run.returncode == 0, run.stderr
    assert "2 trials: " in run.stdout
    untold = command("promote", "study=own")  # a journal does not say whom to trust
    assert (untold.returncode, "trusted_modules=[mine]" in untold.stderr) == (1, True), (
        untold.stderr
    )
    assert command("promote", "study=own", "trusted_modules=[mine]").returncode == 0
