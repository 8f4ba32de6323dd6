"""A study stays within its minutes and its bytes, loses nothing when they or the disk are used up,
and goes on with more.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose, parse
from flowersweep.errors import StudyError
from flowersweep.search import trial_store
from flowersweep.search.state import Study
from flowersweep.search.trial_store import TrialStore, folder_bytes
from flowersweep.space.space import build_space
from flowersweep.study import clock as budget
from flowersweep.study.events import TrialEnded
from flowersweep.study.journal import Journal
from flowersweep.study.records import StudyRecord, TrialRecord, best_record, read_study
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.identity import identity
from flowersweep.training.step import State
from tests.conftest import TINY, tiny_model
from tests.events import append, event, fold, lines, story

WORDS = ["+sweep=smoothing", "sweep.n_trials=5", "sampler=random", "tracking.enabled=false", *TINY]


def ended(number: int, value: float) -> TrialEnded:
    return TrialEnded(trial=number, state="complete", value=value)


def told(study: Path) -> list[int]:
    return [event["trial"] for event in story(study) if event["event"] == "trial_ended"]


def kept(study: Path, name: str) -> set[int]:
    return {int(path.parent.name) for path in study.glob(f"trials/*/{name}.npz")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was never stopped."""
    dir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        tiny_model(dir)
        patch.chdir(dir)
        assert main([*WORDS, "study=whole"]) == 0
    return dir / "mlruns" / "studies" / "whole"


@pytest.fixture
def studies(project: Path, finished: Path) -> Path:
    """The folder of studies in a project that has images and features already."""
    shutil.copytree(finished.parents[1] / "cache", project / "mlruns" / "cache")
    return project / "mlruns" / "studies"


@pytest.fixture
def whole(finished: Path) -> list[dict[str, Any]]:
    """What its journal says."""
    return story(finished)


def test_the_time_between_two_commands_is_not_counted() -> None:
    started, asked = event("study_started", elapsed=2.0), event("trial_asked", trial=0, elapsed=5.0)
    ended, resumed = (
        event("trial_ended", trial=0, state="failed", elapsed=12.0),
        event("study_resumed", elapsed=1.0),
    )
    assert StudyRecord().seconds == 0
    assert StudyRecord([started, asked, ended]).seconds == 10
    assert (
        StudyRecord(
            [started, asked, resumed, event("study_stopped", state="finished", elapsed=4.5)]
        ).seconds
        == 6.5
    )


def test_a_forecast_is_of_so_many_trials() -> None:
    study = fold(
        [
            {"event": "forecast_made", "trials": 4, "minutes": 2.0},
            {"event": "forecast_made", "trials": 9, "minutes": 5.0},
        ]
    )
    assert (study.forecast(4), study.forecast(9), study.forecast(5)) == (2.0, 5.0, None)


def test_no_trial_begins_when_the_minutes_are_used_up(
    studies: Path, whole: object, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([*WORDS, "study=cut", "sweep.budget.minutes=0"]) == 0
    said = capsys.readouterr().out
    assert "sweep.budget.minutes=0 are used up with 0 of 5 trials ended" in said
    assert "study=cut sweep.budget.minutes=" in said
    assert story(studies / "cut") == []
    assert lines(studies / "cut" / "journal.jsonl")[-1]["state"] == "interrupted"
    assert main([*WORDS, "study=cut", "sweep.budget.minutes=100"]) == 0
    assert story(studies / "cut") == whole
    assert lines(studies / "cut" / "journal.jsonl")[-1]["state"] == "finished"


@pytest.mark.slow
def test_minute_by_minute_ends_where_one_run_does(
    studies: Path, whole: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: Iterator[float] = itertools.count(0.0, 60.0)  # a minute goes by whenever somebody looks
    monkeypatch.setattr(budget, "now", lambda: next(ticks))
    start = budget.Clock.__init__
    # every command has its own four minutes
    monkeypatch.setattr(
        budget.Clock, "__init__", lambda clock, seconds, limit: start(clock, 0.0, limit)
    )
    left = []
    for _ in range(60):
        assert main([*WORDS, "study=cut", "sweep.budget.minutes=4"]) == 0
        left += list((studies / "cut" / "checkpoints").glob("*.npz"))
        if len(told(studies / "cut")) == 5:
            break
    assert left  # some were stopped between two segments, with a checkpoint
    assert not list((studies / "cut").glob("checkpoints/*"))
    assert story(studies / "cut") == whole


def test_the_summary_holds_what_was_forecast_against_what_it_took(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "pruner=none"]) == 0
    assert "time: " in (said := capsys.readouterr().out)
    assert ", forecast " in said
    forecasts = [
        event
        for event in lines(studies / "smoothing" / "journal.jsonl")
        if event["event"] == "forecast_made"
    ]
    assert [event["trials"] for event in forecasts] == [5]
    assert forecasts[0]["minutes"] > 0


def test_logits_are_kept_of_the_best_and_weights_of_the_best_one(studies: Path) -> None:
    words = [*WORDS, "pruner=none", "sweep.n_trials=6"]
    assert main([*words, "sweep.save_predictions_of_best=2"]) == 0
    study = studies / "smoothing"
    trials = read_study(study).trials
    ranked = sorted(trials, key=lambda trial: (trial.value, trial.number))
    assert kept(study, "logits") == {trial.number for trial in ranked[:2]}
    assert kept(study, "weights") == {ranked[0].number}
    assert sorted(path.name for path in (study / "trials").iterdir()) == sorted(
        str(trial.number) for trial in ranked[:2]
    )
    # may change when the study goes on
    assert main([*words, "sweep.save_predictions_of_best=1"]) == 0
    assert kept(study, "logits") == {ranked[0].number}


def test_a_study_never_holds_more_bytes_than_it_may(
    studies: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit, stops = trial_store.JOURNAL + (finished / "journal.jsonl").stat().st_size // 2, 0
    while main([*WORDS, "study=small", f"sweep.budget.bytes={limit}"]) == 1:
        said = capsys.readouterr().err
        assert f"sweep.budget.bytes={limit} are used up" in said
        assert folder_bytes(studies / "small") <= limit
        limit, stops = int(said.rpartition("sweep.budget.bytes=")[2]), stops + 1
    assert stops
    assert folder_bytes(studies / "small") <= limit
    assert story(studies / "small") == story(finished)
    assert kept(studies / "small", "weights") == kept(finished, "weights")
    assert kept(studies / "small", "logits") >= kept(finished, "weights")


def trained(values: int) -> Checkpoint:
    return Checkpoint(1, State(np.int32(0), [np.zeros(values, np.float32)], [], [], []))  # type: ignore[arg-type]


def shelf(folder: Path, *words: str) -> TrialStore:
    return TrialStore(folder, compose(["+sweep=quick", *words]), [])


def ends(kept: TrialStore, number: int, value: float, size: int = 1000) -> None:
    kept.save_result(number, value, {}, {"tune": np.zeros(size, np.int8)}, trained(10))
    kept.on_trial_end(TrialRecord(number, {}, ended=ended(number, value)))


def test_room_is_made_by_the_worst_and_never_by_the_best(tmp_path: Path) -> None:
    full = shelf(tmp_path, f"sweep.budget.bytes={trial_store.JOURNAL + 5000}")
    for number, value in enumerate([3.0, 1.0, 2.0]):
        ends(full, number, value)
    assert kept(tmp_path, "logits") == {0, 1, 2}
    ends(full, 3, 1.5)  # trial 0 makes room
    assert kept(tmp_path, "logits") == {1, 2, 3}
    ends(full, 4, 2.5)  # no worse one is left, and it is not the best: nothing is kept of it
    assert kept(tmp_path, "logits") == {1, 2, 3}
    with pytest.raises(StudyError, match="are used up"):
        full.save_checkpoint(TrialRecord(5, {}), trained(5000))
    assert kept(tmp_path, "logits") == {1}
    assert kept(tmp_path, "weights") == {1}
    with pytest.raises(StudyError, match=r"goes on with sweep\.budget\.bytes=\d+"):
        ends(full, 6, 0.5, size=20_000)
    assert full.best is not None
    assert full.best.number == 1


def test_a_promotion_whose_logits_have_no_room_is_stopped_with_what_to_type(tmp_path: Path) -> None:
    limit = trial_store.JOURNAL + 5000
    words = [
        f"sweep.budget.bytes={limit}",
        f"sweep.save_predictions_of_best={trial_store.KEEP_ALL}",
    ]
    full = shelf(tmp_path, *words)
    ends(full, 0, 1.0)
    ends(full, 1, 2.0)
    with pytest.raises(StudyError, match=r"the same command goes on with sweep\.budget\.bytes=\d+"):
        # not the best, but a promotion needs the logits of every training
        ends(full, 2, 3.0, size=5000)
    assert kept(tmp_path, "logits") == {0, 1}


def test_what_a_kill_left_is_cleared_when_the_study_goes_on(tmp_path: Path) -> None:
    first = shelf(tmp_path, "sweep.save_predictions_of_best=2")
    done = [
        TrialRecord(number, {}, ended=ended(number, value))
        for number, value in enumerate([3.0, 1.0, 2.0])
    ]
    for record in done:
        ends(first, record.number, record.value or 0)
    for name in (
        "trials/0/logits.npz",
        "trials/2/weights.npz",
        "trials/1/weights.partial",
        "checkpoints/2.npz",
        "checkpoints/3.npz",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"left")
    again = TrialStore(
        tmp_path, compose(["+sweep=quick", "sweep.save_predictions_of_best=2"]), done
    )
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [
        "checkpoints/3.npz",
        "trials/1/logits.npz",
        "trials/1/weights.npz",
        "trials/2/logits.npz",
    ]
    assert again.best is done[1]


def test_of_two_that_end_beside_each_other_the_better_ones_weights_are_kept(tmp_path: Path) -> None:
    kept_here = shelf(tmp_path)
    ends(kept_here, 0, 3.0)
    both = [
        TrialRecord(number, {}, ended=ended(number, value))
        for number, value in ((1, 1.0), (2, 2.0))
    ]
    for record in both:  # each is better than the best so far
        kept_here.save_result(
            record.number, record.value or 0, {}, {"tune": np.zeros(10, np.int8)}, trained(10)
        )
    for record in both:
        kept_here.on_trial_end(record)
    assert kept(tmp_path, "weights") == {1}
    assert kept(tmp_path, "logits") == {0, 1, 2}


@pytest.mark.parametrize("objective", ["tune/nll", "tune/accuracy"])
def test_the_best_is_the_first_of_equals(objective: str, tmp_path: Path) -> None:
    values = [0.5, 0.2, 0.9, 0.2, 0.9]
    trials = [
        TrialRecord(number, {}, ended=ended(number, value)) for number, value in enumerate(values)
    ]
    one = shelf(tmp_path, f"sweep.objective={objective}")
    for number, record in enumerate(trials):
        ends(one, number, values[number])
        wanted = best_record(trials[: number + 1], objective)
        assert one.best is not None
        assert wanted is not None
        assert (
            one.best.number == wanted.number == record.number
            if number == 0
            else one.best.number == wanted.number
        )


@pytest.mark.parametrize("file", ["trials/{}/logits", "checkpoints/{}"])
def test_a_full_disk_stops_the_study_and_it_goes_on_when_there_is_room(
    file: str, studies: Path, whole: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "study=full", "train.checkpoint_interval_s=0"]
    ended = [event for event in whole if event["event"] == "trial_ended" and event["trial"]]
    file = file.format(next(event["trial"] for event in ended if event["state"] == "complete"))
    assert main([*words, "sweep.n_trials=1"]) == 0
    mkstemp, place = tempfile.mkstemp, studies / "full" / f"{file}.npz"

    def on_a_full_disk(prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        handle, name = mkstemp(prefix=prefix, suffix=suffix, dir=dir)
        if dir.resolve() == place.parent.resolve() and prefix == f".{place.name}.":
            os.close(handle)
            handle = os.open("/dev/full", os.O_WRONLY)
        return handle, name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", on_a_full_disk)
        assert main(words) == 1
    message = capsys.readouterr().err
    assert "No space left on device" in message
    assert "Make room and run the same command again" in message
    assert lines(studies / "full" / "journal.jsonl")[-1]["state"] == "interrupted"
    assert main(words) == 0
    assert story(studies / "full") == whole


def test_a_journal_that_cannot_grow_stops_the_study_and_it_goes_on_when_it_can(
    studies: Path, whole: object, capsys: pytest.CaptureFixture[str]
) -> None:
    words, journal = [*WORDS, "study=full"], studies / "full" / "journal.jsonl"
    assert main([*words, "sweep.n_trials=1"]) == main([*words, "sweep.n_trials=1"]) == 0
    resume = next(line for line in journal.read_bytes().splitlines() if b'"study_resumed"' in line)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # and a part of what comes next
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (journal.stat().st_size + len(resume) + 40, limits[1])
    )
    try:
        assert main(words) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert "cannot write" in message
    assert "Make room and run the same command again" in message
    assert not journal.read_bytes().endswith(b"\n")  # a part of a line was still written
    assert main(words) == 0
    assert story(studies / "full") == whole


def test_a_thousand_million_wanted_trials_take_no_memory(tmp_path: Path) -> None:
    words = ("+sweep=quick", "sweep.n_trials=1000000000")
    config = compose(words)
    with Journal(tmp_path / "journal.jsonl") as journal:
        append(journal, "study_started")
        for number in range(3):
            append(journal, "trial_asked", trial=number, params={"learning_rate": 1e-3})
        journal.append(ended(1, 0.5))
        executor: Any = SimpleNamespace(slots=1, logical_time=None)
        trainer: Any = SimpleNamespace()
        space = build_space(config, words, parse(words))
        study = Study(config, space, journal, trainer, executor=executor)
        assert [*itertools.islice(study.remaining, 4)] == [0, 2, 3, 4]


class Watched(list[Any]):
    """A list that counts how often somebody goes through it."""

    walks = 0

    def __iter__(self) -> Iterator[Any]:
        Watched.walks += 1
        return super().__iter__()


@pytest.mark.parametrize("earlier", [3, 300])
def test_a_trial_costs_the_same_however_many_there_were(
    earlier: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("+sweep=smoothing", "sampler=random", "pruner=none")
    config = compose(words)
    space = build_space(config, words, parse(words))
    with Journal(tmp_path / "journal.jsonl") as journal:
        append(journal, "study_started")
        trainer: Any = SimpleNamespace(identity=lambda config, data_varies: identity(config, 1))
        executor: Any = SimpleNamespace(slots=1, logical_time=None)
        study = Study(config, space, journal, trainer, executor=executor)
        monkeypatch.setattr(journal, "_write", lambda line: None)
        removed: list[Path] = []
        monkeypatch.setattr(Path, "unlink", lambda path, missing_ok: removed.append(path))
        for number in range(earlier + 1):
            if number == earlier:
                Watched.walks = 0
                study.trials = study.record.trials = Watched(study.trials)
                removed.clear()
            record, trial = study.ask(number)
            study.end_trial(
                record, trial, "complete", value=1.0 / (1 + number), metrics={"tune/macro_f1": 0.5}
            )
        assert (study.ended, len([*study.remaining])) == (earlier + 1, max(0, 20 - earlier - 1))
        assert Watched.walks == 0
        assert len(removed) == 1


def test_the_weights_of_the_best_few_are_kept_and_make_room_before_any_logits(
    tmp_path: Path,
) -> None:
    few = "sweep.save_weights_of_best=2"
    values = [3.0, 1.0, 2.0, 4.0]
    ample, short = tmp_path / "ample", tmp_path / "short"
    store = shelf(ample, few)
    for number, value in enumerate(values):
        ends(store, number, value)
    assert kept(ample, "weights") == {1, 2}
    # the same when a study goes on, and fewer when fewer are asked for
    done = [TrialRecord(n, {}, ended=ended(n, value)) for n, value in enumerate(values)]
    for asked, left in ((few, {1, 2}), ("sweep.save_weights_of_best=1", {1})):
        TrialStore(ample, compose(["+sweep=quick", asked]), done)
        assert kept(ample, "weights") == left
    assert kept(ample, "logits") == {0, 1, 2, 3}

    one = sum(path.stat().st_size for path in (ample / "trials" / "1").glob("*.npz"))
    logits = (ample / "trials" / "0" / "logits.npz").stat().st_size
    store = shelf(short, few, f"sweep.budget.bytes={trial_store.JOURNAL + one + 2 * logits + 20}")
    for number, value in enumerate(values[:3]):
        ends(store, number, value)
    assert kept(short, "logits") == {0, 1, 2}
    assert kept(short, "weights") == {1}
