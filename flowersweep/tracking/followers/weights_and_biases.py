"""Write a journal as runs of Weights & Biases, offline unless the user says otherwise.

A run is written whole when its trial has ended, and then noted. A kill in between leaves half a
run, which the next start removes and writes again. Only what the journal holds is sent: not the
command, the environment, the code or the machine.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

from flowersweep.study import journal as journals
from flowersweep.study.events import Epoch, EpochsReported, StudyStarted, TrialEnded
from flowersweep.study.records import StudyRecord, TrialRecord
from flowersweep.tracking.followers.naming import run_name, shown_tags
from flowersweep.tracking.masking import masked, masked_text

AT_ONCE = 1 << 17  # bytes of the journal


class WandbSink:
    """Follow a journal: a run for each ended trial, in ``dir/wandb``, grouped by study."""

    into = "Weights & Biases"

    def __init__(self, journal: Path, dir: Path) -> None:
        self.journal, self.dir = journal, dir
        name = journal.parent.name
        self.later = f"python -m flowersweep sync study={name} tracking.wandb=true"
        self._notes = dir / "wandb" / f"flowersweep-{name}.txt"  # ids of the runs that are whole
        self._record, self._offset = StudyRecord(), 0
        self._epochs: dict[int, dict[int, Epoch]] = {}  # of trials whose run is not written yet
        self._due: list[TrialRecord] = []
        self._written: set[str] | None = None

    def step(self) -> int:
        """Write the runs of the trials that ended; return how many events there were.

        Raises:
            OSError: The disk refuses; call this again later.
        """
        events, self._offset = journals.read_events(self.journal, self._offset, AT_ONCE)
        for event in events:
            self._record.apply(event)
            if isinstance(event, EpochsReported):
                epochs = self._epochs.setdefault(event.trial, {})
                epochs |= {epoch.epoch: epoch for epoch in event.epochs}
            elif isinstance(event, TrialEnded):
                self._due.append(self._record.trials[event.trial])
        while self._due:
            self._write(self._due[0])
            self._epochs.pop(self._due.pop(0).number, None)
        return len(events)

    def close(self) -> None:
        """End the process that writes the files."""
        if self._written is not None:
            import wandb

            wandb.teardown()

    def _write(self, trial: TrialRecord) -> None:
        if self._written is None:
            lines = self._notes.read_text().splitlines() if self._notes.exists() else []
            self._written = {line for line in lines if line}
        started = self._record.started
        # the time tells an earlier study of this name apart
        identity = f"{started.study}-{round(started.time * 1000)}-{trial.number:04d}"
        if identity in self._written:
            return
        for half in (self.dir / "wandb").glob(f"*run-*-{identity}"):
            shutil.rmtree(half)
        self._write_run(identity, started, trial)
        with self._notes.open("a") as file:
            file.write(f"{identity}\n")
        self._written.add(identity)

    def _write_run(self, identity: str, started: StudyStarted, trial: TrialRecord) -> None:
        import wandb

        self.dir.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            config={
                **masked(trial.params),
                "study": started.study,
                "tags": shown_tags(self._record),
            },
            settings=_settings(
                root_dir=str(self.dir),
                run_id=identity,
                run_name=run_name(self._record, trial.number),
                run_group=started.study,
                run_job_type="trial",
                run_tags=(trial.state,),
                run_notes=masked_text(trial.ended.reason or "") if trial.ended else None,
            ),
        )
        for number, epoch in sorted(self._epochs.get(trial.number, {}).items()):
            run.log(_finite(epoch.metrics), step=number)
        final = trial.ended.metrics if trial.ended else {}
        run.summary.update({f"final/{name}": value for name, value in _finite(final).items()})
        run.finish(exit_code=1 if trial.state == "failed" else 0)


def _settings(**more: Any) -> Any:
    """Return settings under which W&B sends what it is given, and prints nothing."""
    import wandb

    return wandb.Settings(
        mode=os.environ.get("WANDB_MODE", "offline"),
        reinit="create_new",
        silent=True,
        console="off",
        save_code=False,
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        **({} if "WANDB_PROJECT" in os.environ else {"project": "flowersweep"}),
        **more,
    )


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
