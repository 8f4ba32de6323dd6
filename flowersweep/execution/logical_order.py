"""Hand over the answers of concurrent trials in an order that does not depend on who is faster.

An answer has a logical time: the epochs that were trained when its trial was asked for, plus the
trial's own. The search sees answers in the order of that time; of equal times the lower trial is
first. So a study that is killed and resumed equals one that was never killed.
"""

from __future__ import annotations

from flowersweep.execution.protocol import Message, StartTrial, Task, TaskDone, TrainUntil
from flowersweep.study.records import StudyRecord


class LogicalOrder:
    """Holds answers until it is their turn.

    Args:
        study: The study as it was resumed; it knows when its trials were asked for.
    """

    def __init__(self, study: StudyRecord) -> None:
        self.time = study.logical_time  # of the answer that was handed over last
        asked = {trial.number: trial.asked_at for trial in study.trials}
        self._asked = {number: at for number, at in asked.items() if at is not None}
        self._reached: dict[int, int] = {}  # trial -> epochs that it was asked to train
        self._due: dict[int, int] = {}  # trial -> the logical time of its next answer
        self._answers: dict[int, Message] = {}  # that came before their turn

    def expect(self, trial: int, task: Task) -> None:
        """Note that a trial will answer a task."""
        if isinstance(task, StartTrial):
            self._asked.setdefault(trial, self.time)
            self._reached[trial] = 0
        elif isinstance(task, TrainUntil):
            self._reached[trial] = task.epoch
        # to score a trial counts as an epoch: the others train on meanwhile
        scoring = not isinstance(task, StartTrial | TrainUntil)
        self._due[trial] = self._asked[trial] + self._reached[trial] + scoring

    def add(self, answer: Message) -> None:
        """Take an answer that has come."""
        self._answers[answer.trial] = answer

    def forget(self, trial: int) -> None:
        """Wait no longer for a trial, whose worker is gone."""
        self._due.pop(trial, None)
        self._answers.pop(trial, None)

    def next(self) -> Message | None:
        """Return the answer whose turn it is, once; None if it has not come yet."""
        trial = min(self._due, key=lambda number: (self._due[number], number), default=None)
        if trial is None or trial not in self._answers:
            return None
        self.time = max(self.time, self._due.pop(trial))
        answer = self._answers.pop(trial)
        if isinstance(answer, TaskDone) and isinstance(answer.answer, int):
            self._reached[trial] = answer.answer  # it was started where its checkpoint stands
        return answer
