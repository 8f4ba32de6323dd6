"""A journal as a study writes it, event by event."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.study.journal import Journal
from tests.events import append

CLASSES = ["pink primrose", "wild rose", "tulip", "daisy"]
CONFIG = {
    "loss": {"name": "focal", "gamma": 0.0},
    "data": {"dir": "flowers", "api_key": "swordfish"},
    "train": {"epochs": 3},
}


@dataclass
class Study:
    """A study that writes its journal as a sweep does."""

    dir: Path
    name: str = "smoothing"

    @property
    def path(self) -> Path:
        return self.dir / "studies" / self.name / "journal.jsonl"

    def write(self, *steps: Callable[[Journal], Any]) -> None:
        with Journal(self.path) as journal:
            for step in steps:
                step(journal)

    def begin(self, **more: Any) -> Callable[[Journal], Any]:
        provenance = {
            "command": "python -m flowersweep +sweep=smoothing tracking.token=swordfish",
            "git_commit": "c0ffee",
            "git_dirty": False,
            "versions": {"jax": "0.10.2"},
            "platform": "cpu",
            "data": {
                "name": "flowers",
                "dir": "flowers",
                "digest": "d" * 64,
                "classes": CLASSES,
                "counts": {"train": 12},
            },
        }
        facts = {
            "experiment": self.name,
            "seed": 0,
            "objective": "tune/nll",
            "direction": "minimize",
            "space": {"gamma": "interval(0, 5)"},
        }
        return lambda journal: append(
            journal,
            "study_started",
            study=self.name,
            **{**facts, "config": CONFIG, "provenance": provenance, **more},
        )

    def ask(self, trial: int, **params: Any) -> Callable[[Journal], Any]:
        params = params or {"gamma": 0.5 * trial}
        return lambda journal: append(
            journal,
            "trial_asked",
            trial=trial,
            params=params,
            settings={f"loss.{key}": v for key, v in params.items()},
        )

    def report(self, trial: int, *epochs: int) -> Callable[[Journal], Any]:
        rows = [
            {
                "epoch": e,
                "time": time.time(),
                "metrics": {"train/loss": 1 / e, "tune/nll": 0.9 / e + trial},
            }
            for e in epochs
        ]
        return lambda journal: append(
            journal,
            "epochs_reported",
            trial=trial,
            epochs=rows,
            value=rows[-1]["metrics"]["tune/nll"],
        )

    def tell(
        self, trial: int, state: str = "complete", reason: str | None = None, logits: bool = False
    ) -> Callable[[Journal], Any]:
        metrics = (
            {"tune/macro_f1": 0.5 + trial / 100, "holdout/macro_f1": 0.4}
            if state == "complete"
            else {}
        )
        facts = {
            "state": state,
            "metrics": metrics,
            "reason": reason,
            "folder": self.logits(trial) if logits else None,
        }
        return lambda journal: append(
            journal, "trial_ended", trial=trial, value=0.3 if metrics else None, **facts
        )

    def stop(self, state: str = "finished", best: int | None = 0) -> Callable[[Journal], Any]:
        return lambda journal: append(journal, "study_stopped", state=state, best=best)

    def whole(self, trial: int, **more: Any) -> list[Callable[[Journal], Any]]:
        return [
            self.ask(trial),
            self.report(trial, 1, 2),
            self.report(trial, 3),
            self.tell(trial, **more),
        ]

    def logits(self, trial: int, images: int = 8) -> str:
        folder = self.path.parent / "trials" / str(trial)
        folder.mkdir(parents=True, exist_ok=True)
        labels = np.arange(images, dtype=np.int32) % len(CLASSES)
        logits = np.eye(len(CLASSES), dtype=np.float16)[labels] * 5
        logits[0] = [0, 9, 0, 0]  # a primrose taken for a rose
        np.savez(
            folder / "logits.npz",
            tune=logits,
            holdout=logits,
            tune_labels=labels,
            holdout_labels=labels,
        )
        return f"trials/{trial}"
