"""Trials beside each other in one process: what each gives, what is told of them and in which order
does not depend on the clock.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config.compose import compose
from flowersweep.config.files import config_folder
from flowersweep.errors import ConfigError
from flowersweep.execution.protocol import (
    CheckpointReached,
    Evaluate,
    Message,
    Paused,
    Progress,
    StartTrial,
    Task,
    TaskDone,
    TaskFailed,
    TrainUntil,
    TrialSpec,
)
from flowersweep.execution.runner import TrialRunner
from flowersweep.execution.threads import Threads
from flowersweep.study.records import StudyRecord
from flowersweep.training.context import TrainingContext
from flowersweep.training.image_trainer import ImageTrainer
from tests.conftest import TINY
from tests.events import fold
from tests.kills import Fork
from tests.tiny import tiny

WORDS = [
    "+sweep=smoothing",
    "sampler=qmc",
    "sweep.n_trials=6",
    "tracking.enabled=false",
    "train.checkpoint_interval_s=0",
    *TINY,
]
BESIDE = ["executor=threads", "sweep.workers=3"]


def events(study: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (study / "journal.jsonl").read_text().splitlines()]
    return [event for event in found if event["event"] == kind]


def answered(executor: Threads, saved: list[int] | None = None) -> Message:
    """Return the next answer to a task; note which trials had a checkpoint on the way."""
    answers: list[Message] = []

    def handle(message: Message) -> None:
        if isinstance(message, CheckpointReached) and saved is not None:
            saved.append(message.trial)
        elif not isinstance(message, Progress | CheckpointReached):
            answers.append(message)

    while not answers:
        executor.receive(handle)
    return answers[0]


def job(number: int, **train: Any) -> TrialSpec:
    return TrialSpec(number, tiny(train=replace(tiny().train, **train)), {}, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", ["train=frozen", pytest.param("train=finetune", marks=pytest.mark.slow)]
)
def test_each_trial_gives_bit_for_bit_what_it_gives_alone_and_the_first_compiles(
    stage: str, project: Path, fork: Fork
) -> None:
    for words in (["study=alone"], [*BESIDE, "study=beside"]):
        run = fork(project, [*WORDS, "pruner=none", stage, *words])
        assert run.returncode == 0, run.stderr
    alone, beside = (project / "mlruns" / "studies" / name for name in ("alone", "beside"))
    told = [
        {event["trial"]: event["metrics"] for event in events(study, "trial_ended")}
        for study in (alone, beside)
    ]
    assert told[0] == told[1]
    assert len(told[1]) == 6
    moments = [event["logical_time"] for event in events(beside, "epochs_reported")]
    assert moments == sorted(moments)
    assert len({event["worker"] for event in events(beside, "epochs_reported")}) == 3
    counted = [
        sum(event["programs"] for event in events(study, "programs_compiled"))
        for study in (alone, beside)
    ]
    assert counted[0] == counted[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "pruner", [file.stem for file in sorted(config_folder("conf").glob("pruner/*.yaml"))]
)
def test_every_pruner_ends_trials_that_run_beside_each_other(
    pruner: str, project: Path, fork: Fork
) -> None:
    run = fork(project, [*WORDS, *BESIDE, f"pruner={pruner}", "sweep.n_trials=12", "study=some"])
    assert run.returncode == 0, run.stderr
    told = events(project / "mlruns" / "studies" / "some", "trial_ended")
    assert len(told) == 12
    assert {event["state"] for event in told} == (
        {"complete"} if pruner == "none" else {"complete", "pruned"}
    )


def test_answers_come_in_logical_order_however_long_they_take(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrialRunner.run

    def slowly(runner: TrialRunner, task: Task) -> None:
        # the first trial is the last to answer
        time.sleep(0.2 if hasattr(runner, "spec") and runner.spec.number == 0 else 0)
        run(runner, task)

    monkeypatch.setattr(TrialRunner, "run", slowly)
    with Threads(ImageTrainer(context), 2, StudyRecord()) as executor:
        for number in (0, 1):
            executor.submit(number, StartTrial(job(number), None))
        order = []
        for _ in range(8):
            number = answered(executor).trial
            order.append((number, executor.logical_time))
            done = sum(each == number for each, _ in order)
            if done < 4:
                executor.submit(number, (TrainUntil(1), TrainUntil(2), Evaluate())[done - 1])
    assert order == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]


def test_a_trial_resumed_at_its_last_epoch_is_scored_at_the_logical_time_at_which_it_was(
    context: TrainingContext, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    runner = TrialRunner(ImageTrainer(context), lambda message: None, lambda: False)
    runner.run(StartTrial(job(0), None))
    runner.run(TrainUntil(2))
    runner.checkpoint.save(path)
    record = fold(
        [
            {"event": "trial_asked", "trial": 0, "logical_time": 3},
            {
                "event": "epochs_reported",
                "trial": 0,
                "epochs": [{"epoch": 1}],
                "value": 1.0,
                "logical_time": 5,
            },
        ]
    )
    with Threads(ImageTrainer(context), 2, record) as executor:
        executor.submit(0, StartTrial(job(0), path))
        assert answered(executor) == TaskDone(0, 2)
        executor.submit(0, Evaluate())
        answered(executor)
    assert executor.logical_time == 6


def test_a_failure_is_the_trials_alone(
    context: TrainingContext,
) -> None:
    with Threads(ImageTrainer(context), 2, StudyRecord()) as executor:
        executor.submit(0, StartTrial(job(0, learning_rate=1e38, weight_decay=1e38), None))
        executor.submit(
            1, StartTrial(job(1, batch_per_replica=7, gradient_accumulation_steps=2), None)
        )
        assert {answered(executor).trial, answered(executor).trial} == {0, 1}
        executor.submit(0, TrainUntil(2))
        assert isinstance(answered(executor), TaskFailed)
        executor.submit(1, TrainUntil(1))
        failure = answered(executor)
        assert isinstance(failure, TaskFailed)
        assert "gradient_accumulation_steps=2 does not divide" in failure.reason


def test_a_training_that_must_stop_is_paused_at_its_checkpoint(context: TrainingContext) -> None:
    saved: list[int] = []
    with Threads(ImageTrainer(context), 2, StudyRecord()) as executor:
        executor.submit(4, StartTrial(job(4, epochs=3), None))
        assert answered(executor) == TaskDone(4, 0)
        executor.submit(4, TrainUntil(1))
        assert isinstance(answered(executor, saved), TaskDone)
        executor.request_stop()
        executor.submit(4, TrainUntil(2))
        assert answered(executor, saved) == Paused(4)
    assert saved == [4]


def test_hosts_that_train_together_have_no_trials_beside_each_other() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.workers=1"):
        compose([*BESIDE, "distributed.coordinator=localhost:1", "distributed.hosts=2"])
