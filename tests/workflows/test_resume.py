"""A study that was killed at any moment and started again is the study that was never killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

from tests.conftest import TINY, Command, environment
from tests.events import append, lines, rewrite, story
from tests.kills import Fork, until_it_ends
from tests.waiting import wait_for

WORDS = [
    "+sweep=smoothing",
    "sweep.n_trials=9",
    "sampler.n_startup_trials=4",
    "tracking.enabled=false",
    "train.checkpoint_interval_s=0",
    *TINY,
]
BESIDE = ["executor=threads", "sweep.workers=3"]


def ended_trials(journal: Path) -> int:
    """Return how many trials have ended, of a journal that may not be there yet."""
    return journal.read_text().count('"trial_ended"') if journal.exists() else 0


@pytest.mark.slow
def test_killed_in_the_middle_of_epochs_and_resumed_ends_bit_for_bit_the_same(
    project: Path, fork: Fork, kill_seed: int
) -> None:
    words = ["train", "tracking.enabled=false", "train.checkpoint_interval_s=0", *TINY]
    words += ["train=finetune", "train.head_epochs=1", "train.epochs=4", "train.ema_half_life=0.1"]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    kills, _ = until_it_ends(fork, project, "checkpoint", 12, [*words, "study=killed"], kill_seed)
    studies = project / "mlruns" / "studies"
    assert story(studies / "killed") == story(studies / "whole"), (
        f"after kills at (checkpoint, share of it) {kills}"
    )
    for name in ("weights.npz", "logits.npz"):
        with (
            np.load(next(studies.glob(f"whole/**/{name}"))) as one,
            np.load(next(studies.glob(f"killed/**/{name}"))) as other,
        ):
            for leaf in one.files:
                if leaf != "about":  # holds times
                    np.testing.assert_array_equal(one[leaf], other[leaf], err_msg=f"{name}: {leaf}")


@pytest.mark.slow
@pytest.mark.parametrize("beside", [[], BESIDE], ids=["one after the other", "beside each other"])
def test_killed_at_random_events_and_resumed_equals_never_killed(
    beside: list[str], project: Path, fork: Fork, kill_seed: int
) -> None:
    words = [*WORDS, *beside]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    kills, run = until_it_ends(fork, project, "event", 14, [*words, "study=killed"], kill_seed)
    studies = project / "mlruns" / "studies"
    assert story(studies / "killed") == story(studies / "whole"), (
        f"after kills at (event, share of its line) {kills}"
    )
    tells = [event for event in story(studies / "killed") if event["event"] == "trial_ended"]
    assert sorted(tell["trial"] for tell in tells) == list(range(9))
    assert {tell["state"] for tell in tells} >= {"complete", "pruned"}
    # the same table, the same best
    assert run.stdout.splitlines()[:12] == whole.stdout.splitlines()[:12]


@pytest.mark.slow
def test_a_finished_study_is_not_run_again_but_shown_again(project: Path, fork: Fork) -> None:
    words = ["+sweep=quick", "tracking.enabled=false", *TINY]
    first = fork(project, words)
    assert first.returncode == 0, first.stderr
    before = story(project / "mlruns" / "studies" / "quick")
    second = fork(project, words)
    assert second.returncode == 0, second.stderr
    assert story(project / "mlruns" / "studies" / "quick") == before
    assert first.stdout.splitlines()[:6] == second.stdout.splitlines()[:6]


@pytest.mark.slow
def test_more_trials_go_on_where_the_study_ended_and_other_settings_are_refused(
    project: Path, fork: Fork
) -> None:
    words = ["+sweep=quick", "tracking.enabled=false", *TINY]
    mirror = "sweep.optuna_storage=sqlite:///mirror.db"  # may be added when a study is gone on with
    assert fork(project, [*words, "sweep.n_trials=2"]).returncode == 0
    assert fork(project, [*words, "sweep.n_trials=3", mirror]).returncode == 0
    tells = [
        event
        for event in story(project / "mlruns" / "studies" / "quick")
        if event["event"] == "trial_ended"
    ]
    assert [event["trial"] for event in tells] == [0, 1, 2]
    mirrored = optuna.load_study(storage="sqlite:///mirror.db", study_name="quick").trials
    assert [trial.value for trial in mirrored if trial.state.name == "COMPLETE"] == [
        e["value"] for e in tells if e["state"] == "complete"
    ]
    refused = fork(project, [*words, "model.dropout=0.5"])
    assert refused.returncode == 1
    assert "model.dropout: 0.2 -> 0.5" in refused.stderr
    assert "study=NAME" in refused.stderr


@pytest.mark.slow
def test_a_study_that_is_older_than_a_key_goes_on_where_nobody_sets_it(
    project: Path, fork: Fork
) -> None:
    words = ["+sweep=quick", "tracking.enabled=false", *TINY]
    assert fork(project, [*words, "sweep.n_trials=1"]).returncode == 0
    journal = project / "mlruns" / "studies" / "quick" / "journal.jsonl"
    older, *others = lines(journal)
    older["settings"] = {
        path: value
        for path, value in older["settings"].items()
        if not path.startswith(("engine", "oracle"))
    }
    rewrite(journal, [older, *others])
    again = fork(project, [*words, "sweep.n_trials=2"])
    assert again.returncode == 0, again.stderr
    other = fork(project, [*words, "engine=keras_tuner", "sweep.n_trials=3"])
    assert other.returncode == 1
    assert "engine: None -> 'keras_tuner'" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "beside"),
    [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGINT, BESIDE)],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C beside each other"],
)
def test_an_interrupted_study_says_so_and_goes_on(
    kind: signal.Signals, beside: list[str], project: Path, command: Command
) -> None:
    words = ["+sweep=quick", "tracking.enabled=false", *TINY, *beside, "sweep.n_trials=400"]
    # as a shell starts what runs in the background: with Ctrl-C ignored
    ignoring = [
        "/bin/sh",
        "-c",
        'trap "" INT; exec "$0" "$@"',
        sys.executable,
        "-m",
        "flowersweep",
        *words,
    ]
    process = subprocess.Popen(
        ignoring, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True
    )
    journal = project / "mlruns" / "studies" / "quick" / "journal.jsonl"
    wait_for(lambda: process.poll() is not None or ended_trials(journal) >= 2, 300)
    process.send_signal(kind)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in told
    done = len([event for event in story(journal.parent) if event["event"] == "trial_ended"])
    assert json.loads(journal.read_text().splitlines()[-1])["state"] == "interrupted"
    again = command(*words[:-1], f"sweep.n_trials={done + 1}")
    assert again.returncode == 0, again.stderr
    assert sorted(
        event["trial"] for event in story(journal.parent) if event["event"] == "trial_ended"
    ) == list(range(done + 1))


def test_a_study_has_one_writer(project: Path) -> None:
    from flowersweep.errors import StudyError
    from flowersweep.study.journal import Journal

    path = project / "mlruns" / "studies" / "mine" / "journal.jsonl"
    with Journal(path) as journal:
        append(journal, "study_started")
        with pytest.raises(StudyError, match=r'"mine" is being run by process \d+ on'):
            Journal(path)
    with Journal(path):
        pass
