"""Studies that nobody trained: journals and logits written by hand, so that it is known what a page
must say of them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from flowersweep.report.study_view import StudyView
from flowersweep.study.journal import read_events
from flowersweep.study.records import StudyRecord

BEGUN = 1_700_000_000.0
CLASSES = 4
IMAGES = 200  # in each half


@dataclass
class Play:
    """One trial: ``skill`` is how far the right logit stands out; None leaves no logits."""

    params: dict[str, Any]
    value: float | None = None
    state: str | None = "complete"  # None: still running
    curve: Sequence[float] = ()
    skill: float | None = None
    reason: str | None = None


SPACE = {
    "loss": {
        "path": "loss",
        "values": CategoricalDistribution(["smoothed_cross_entropy", "focal"]),
    },
    "label_smoothing": {
        "path": "loss.label_smoothing",
        "values": FloatDistribution(0, 0.3),
        "when": {"loss": ["smoothed_cross_entropy"]},
    },
    "gamma": {
        "path": "loss.gamma",
        "values": FloatDistribution(0.5, 5),
        "when": {"loss": ["focal"]},
    },
    "learning_rate": {
        "path": "train.learning_rate",
        "values": FloatDistribution(5e-4, 5e-2, log=True),
    },
}


@dataclass
class MadeUp:
    """A study to write: its trials one after the other, ten seconds each."""

    plays: Sequence[Play]
    name: str = "made_up"
    objective: str = "tune/calibrated_nll"
    space: dict[str, Any] = field(default_factory=lambda: SPACE)
    words: Sequence[str] = ("+sweep=smoothing",)
    command: str | None = None
    pauses: dict[int, float] = field(default_factory=dict)  # seconds of pause before a trial
    wanted: int | None = None
    digest: str = "d1"
    images_seed: int = 0
    classes: Sequence[str] = ("rose", "iris", "lily", "daisy")

    def write(self, studies: Path) -> Path:
        """Write the study below ``studies`` and return its folder."""
        folder = studies / self.name
        folder.mkdir(parents=True)
        events, now = [self._study()], BEGUN
        for number, play in enumerate(self.plays):
            if number in self.pauses:
                now += self.pauses[number]
                events.append(
                    {
                        "event": "study_resumed",
                        "time": now,
                        "command": " ".join(self.words),
                        "n_trials": self.wanted or len(self.plays),
                    }
                )
            events += self._trial(number, play, now)
            now += 10
            if play.skill is not None:
                keep(
                    folder / "trials" / str(number) / "logits.npz",
                    play.skill,
                    number,
                    self.images_seed,
                )
        opened = BEGUN
        for event in events:
            opened = event["time"] if event["event"] == "study_resumed" else opened
            event["elapsed"] = event["time"] - opened
        (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return folder

    def _study(self) -> dict[str, Any]:
        data = {
            "name": "flowers",
            "dir": "flowers",
            "digest": self.digest,
            "classes": list(self.classes),
            "counts": {"tune": IMAGES},
        }
        return {
            "event": "study_started",
            "format": 1,
            "time": BEGUN,
            "study": self.name,
            "seed": 0,
            "experiment": self.name,
            "objective": self.objective,
            "direction": "minimize" if self.objective.endswith("nll") else "maximize",
            "overrides": self._overrides(),
            "config": {"sweep": {"n_trials": len(self.plays)}},
            "space": {
                name: {"when": {}, **p, "values": distribution_to_json(p["values"])}
                for name, p in self.space.items()
            },
            "settings": {"data.digest": self.digest, "train.epochs": 10},
            "provenance": {
                "command": self.command or " ".join(["python -m flowersweep", *self.words]),
                "data": data,
                "versions": {},
            },
        }

    def _overrides(self) -> list[str]:
        return [*self.words] if self.command is None else shlex.split(self.command)[3:]

    def _trial(self, number: int, play: Play, now: float) -> list[dict[str, Any]]:
        common = {"trial": number}
        events: list[dict[str, Any]] = [
            {"event": "trial_asked", "time": now, "params": play.params, "settings": {}, **common}
        ]
        for epoch, value in enumerate(play.curve, start=1):
            point = {
                "epoch": epoch,
                "time": now + epoch,
                "metrics": {self.objective: value, "tune/macro_f1": 0.5},
            }
            events.append(
                {
                    "event": "epochs_reported",
                    "time": now + epoch,
                    "epochs": [point],
                    "value": value,
                    **common,
                }
            )
        if play.state is not None:
            metrics = (
                {"tune/macro_f1": 0.9, "holdout/macro_f1": 0.8} if play.state == "complete" else {}
            )
            told = {
                "state": play.state,
                "value": play.value,
                "metrics": metrics,
                "reason": play.reason,
                "attributes": {},
            }
            events.append({"event": "trial_ended", "time": now + 9, **told, **common})
        return events


def keep(path: Path, skill: float, seed: int, images_seed: int = 0) -> None:
    """Write logits as a trial leaves them: noise that all trials share, a little of its own, and
    the right class raised.
    """
    images, own = np.random.default_rng(images_seed), np.random.default_rng([seed, 7])
    arrays = {}
    for half in ("tune", "holdout"):
        labels = images.permutation(np.arange(IMAGES) % CLASSES).astype(np.int32)
        noise = images.normal(size=(IMAGES, CLASSES)) + 0.1 * own.normal(size=(IMAGES, CLASSES))
        arrays[half] = (noise + skill * np.eye(CLASSES)[labels]).astype(np.float16)
        arrays[f"{half}_labels"] = labels
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)


def smoothed(label_smoothing: float, learning_rate: float) -> dict[str, Any]:
    """Parameters of the one branch."""
    return {
        "loss": "smoothed_cross_entropy",
        "label_smoothing": label_smoothing,
        "learning_rate": learning_rate,
    }


def focal(gamma: float, learning_rate: float) -> dict[str, Any]:
    """Parameters of the other branch."""
    return {"loss": "focal", "gamma": gamma, "learning_rate": learning_rate}


def of_all_kinds(**more: Any) -> MadeUp:
    """A study with trials of every state and both branches; trial 3 is best, then trial 0."""
    plays = [
        Play(smoothed(0.1, 0.01), 0.31, curve=(0.9, 0.5, 0.31), skill=3.0),
        Play(focal(2.0, 0.002), 0.7, "pruned", curve=(1.2, 0.7)),
        Play(
            smoothed(0.2, 0.03),
            None,
            "failed",
            curve=(2.0,),
            reason="train/loss is nan after epoch 2",
        ),
        Play(smoothed(0.12, 0.012), 0.3, curve=(0.8, 0.5, 0.3), skill=3.0),
        Play(focal(1.0, 0.02), 0.5, curve=(1.0, 0.6, 0.5), skill=1.0),
        Play(smoothed(0.02, 0.005), None, None, curve=(0.9,)),
    ]
    return MadeUp(plays, **more)


def altered(study: StudyView, **changes: Any) -> StudyView:
    """Return a study with other contents of its first event."""
    first, *events = read_events(study.folder / "journal.jsonl")[0]
    return replace(study, record=StudyRecord([replace(first, **changes), *events]))
