"""Answers of concurrent trials are handed over in logical time, whoever is faster."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from flowersweep.execution.logical_order import LogicalOrder
from flowersweep.execution.pool import WorkerPool
from flowersweep.execution.protocol import (
    Evaluate,
    Message,
    Progress,
    StartTrial,
    Task,
    TaskDone,
    TrainUntil,
    TrialSpec,
    WorkerConfig,
    WorkerLost,
    WorkerReady,
)
from flowersweep.study.records import StudyRecord
from tests.events import fold
from tests.tiny import tiny


def begin(number: int) -> StartTrial:
    return StartTrial(TrialSpec(number, tiny(), {}, None), None)


def taken(order: LogicalOrder) -> list[int]:
    """Return the trials whose turn it is."""
    numbers = []
    while (answer := order.next()) is not None:
        numbers.append(answer.trial)
    return numbers


def test_an_answer_waits_for_a_trial_that_is_behind() -> None:
    order = LogicalOrder(StudyRecord())
    for trial, task in ((0, TrainUntil(2)), (1, TrainUntil(4))):
        order.expect(trial, begin(trial))
        order.expect(trial, task)
    order.add(TaskDone(1, []))
    assert taken(order) == []
    order.add(TaskDone(0, []))
    assert taken(order) == [0, 1]
    assert order.time == 4


def test_equal_times_are_ordered_by_the_number_of_the_trial() -> None:
    order = LogicalOrder(StudyRecord())
    for trial in (3, 2):
        order.expect(trial, begin(trial))
        order.add(TaskDone(trial, 0))
    assert taken(order) == [2, 3]


def test_a_trial_whose_worker_is_gone_starts_again_and_the_others_wait_for_it() -> None:
    order = LogicalOrder(StudyRecord())
    for trial in (0, 1):
        order.expect(trial, begin(trial))
        order.expect(trial, TrainUntil(4))
    order.add(TaskDone(0, []))
    order.forget(0)
    order.expect(0, begin(0))
    order.add(TaskDone(1, []))
    assert taken(order) == []
    order.add(TaskDone(0, 2))  # from its checkpoint
    assert order.next() == TaskDone(0, 2)
    order.expect(0, TrainUntil(4))
    order.add(TaskDone(0, []))
    assert taken(order) == [0, 1]


def test_a_resumed_study_knows_when_its_trials_were_asked_for() -> None:
    record = fold([{"event": "trial_asked", "trial": 0, "logical_time": 3}])
    order = LogicalOrder(record)
    order.expect(0, begin(0))
    order.add(TaskDone(0, 2))
    assert taken(order) == [0]
    order.expect(0, Evaluate())
    order.add(TaskDone(0, None))
    assert taken(order) == [0]
    assert order.time == 6


class Scripted:
    """A worker that says what a test has it say."""

    def __init__(self) -> None:
        self.says: deque[Any] = deque([WorkerReady("cpu", "cpu", 1)])
        self.tasks: list[Any] = []

    def send(self, message: Any) -> None:
        self.tasks.append(message)

    def receive(self) -> Any:
        message = self.says.popleft()
        if isinstance(message, EOFError):
            raise message
        return message

    def end(self) -> None:
        pass


class ScriptedBackend:
    """Starts workers that do what a test says."""

    local = ordered = True

    def __init__(self) -> None:
        self.workers: list[Scripted] = []

    def start(self) -> Scripted:
        self.workers.append(Scripted())
        return self.workers[-1]

    def ready(self, connections: Sequence[Scripted], seconds: float) -> list[Scripted]:
        return [each for each in connections if each.says]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("ordered", [True, False])
def test_a_pool_hands_answers_over_in_order_or_as_they_come(ordered: bool) -> None:
    backend, messages = ScriptedBackend(), list[Message]()
    order = LogicalOrder(StudyRecord()) if ordered else None
    with WorkerPool(backend, 2, WorkerConfig("", (), "", ()), order=order) as pool:
        pool.wait_until_ready()

        def handle(message: Message) -> None:
            messages.append(message)
            if isinstance(message, WorkerLost):
                pool.submit(message.trial, begin(message.trial))

        def answer(trial: int, message: Any, task: Task | None = None) -> None:
            """Have the worker of a trial say something, then give the trial a task."""
            (worker,) = [
                each for each, number in pool._trials.items() if number == trial
            ]  # whichever has it
            assert isinstance(worker, Scripted)
            worker.says.append(message)
            pool.receive(handle)
            if task is not None:
                pool.submit(trial, task)

        pool.receive(messages.append)
        for trial in (0, 1):
            pool.submit(trial, begin(trial))
        for trial in (0, 1):
            answer(trial, TaskDone(trial, 0), TrainUntil(1))
        messages.clear()
        answer(1, Progress(1, 1, 0))
        answer(1, TaskDone(1, "fast"))
        assert messages == [Progress(1, 1, 0), *([] if ordered else [TaskDone(1, "fast")])]
        answer(0, EOFError("killed"))
        assert messages[-1] == WorkerLost(0, "killed")
        pool.receive(messages.append)  # the worker in its place is ready
        answer(0, TaskDone(0, 0), TrainUntil(1))
        answer(0, TaskDone(0, "slow"))
        assert messages[-1] == TaskDone(
            0, "slow"
        )  # alone: a trial may be asked for before the next
        if ordered:
            pool.receive(messages.append)
            assert messages[-1] == TaskDone(1, "fast")
        assert pool.logical_time == (1 if ordered else None)
