"""Write a journal as TensorBoard's event files.

The bytes of each file follow from the journal alone. So a restart compares what is there with what
must be there and goes on behind it: a kill loses no point and doubles none. TensorFlow is not
imported.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from flowersweep.study import journal as journals
from flowersweep.study.events import EpochsReported, Event, StudyStarted, TrialAsked, TrialEnded
from flowersweep.study.records import StudyRecord
from flowersweep.tracking.masking import MASK, masked_text, secret

AT_ONCE = 1 << 17  # bytes of the journal


class EventFile:
    """A file that must hold certain bytes; ``write`` changes only what differs."""

    def __init__(self, path: Path) -> None:
        self.path, self.pending, self.verified = path, b"", 0

    def write(self) -> None:
        """Bring the file up to date. A write that failed can be repeated."""
        if not self.pending:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.seek(self.verified)
            if file.read(len(self.pending)) != self.pending:
                file.seek(self.verified)
                file.write(self.pending)
                file.truncate()
        self.verified += len(self.pending)
        self.pending = b""


class TensorBoardSink:
    """Follow a journal: a run for each trial, in ``dir/tensorboard/STUDY/NUMBER``."""

    into = "TensorBoard"

    def __init__(self, journal: Path, dir: Path) -> None:
        self.journal = journal
        name = journal.parent.name
        self.later = f"python -m flowersweep sync study={name} tracking.tensorboard=true"
        self.folder = dir / "tensorboard" / name
        self._record, self._offset = StudyRecord(), 0
        self._files: dict[int | None, EventFile] = {}
        self._epochs: dict[int, int] = {}  # trial -> epochs written

    def step(self) -> int:
        """Write the next events; return how many there were.

        Raises:
            OSError: The disk refuses; call this again later.
        """
        events, self._offset = journals.read_events(self.journal, self._offset, AT_ONCE)
        for event in events:
            self._record.apply(event)
            self._take(event)
        for trial, file in [*self._files.items()]:
            if trial is None and file.pending:
                self._clear_other_study(file)
            file.write()
        return len(events)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _take(self, event: Event) -> None:
        match event:
            case StudyStarted():
                self._add(None, event, lambda summary: _describe_study(summary, event))
            case TrialAsked():
                name = f"{self._record.started.study}-{event.trial:04d}"
                self._add(event.trial, event, lambda summary: _describe_trial(summary, event, name))
            case EpochsReported():
                for epoch in event.epochs:
                    if epoch.epoch > self._epochs.get(event.trial, 0):
                        self._epochs[event.trial] = epoch.epoch
                        self._add_scalars(event.trial, epoch.metrics, epoch.time, epoch.epoch)
            case TrialEnded():
                step = self._epochs.get(event.trial, 0)
                final = {f"final/{name}": value for name, value in event.metrics.items()}
                self._add_scalars(event.trial, final, event.time, step)
                self._add(event.trial, event, lambda summary: _end_trial(summary, event))

    def _add_scalars(
        self, trial: int, metrics: Mapping[str, float], time: float, step: int
    ) -> None:
        def fill(summary: Any) -> None:
            for name, value in metrics.items():
                if math.isfinite(value):
                    summary.value.add(tag=name, simple_value=value)

        if metrics:
            self._file(trial, time).pending += _record_of(time, step, fill)

    def _add(self, trial: int | None, event: Event, fill: Callable[[Any], None]) -> None:
        self._file(trial, event.time).pending += _record_of(event.time, 0, fill)

    def _file(self, trial: int | None, time: float) -> EventFile:
        if trial not in self._files:
            folder = self.folder if trial is None else self.folder / f"{trial:04d}"
            file = self._files[trial] = EventFile(folder / "events.out.tfevents.flowersweep")
            file.pending = _record_of(time, 0, None)
        return self._files[trial]

    def _clear_other_study(self, file: EventFile) -> None:
        """Remove the files of an earlier study of this name."""
        if file.path.exists() and not file.path.read_bytes().startswith(file.pending):
            shutil.rmtree(self.folder)


def _record_of(time: float, step: int, fill: Callable[[Any], None] | None) -> bytes:
    """Return an event as it stands in a file: a summary, or without ``fill`` the file's first."""
    from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
    from tensorboard.summary.writer.record_writer import RecordWriter

    event = TensorBoardEvent(wall_time=time, step=step)
    if fill is None:
        event.file_version = "brain.Event:2"
    else:
        fill(event.summary)
    buffer = BytesIO()
    RecordWriter(buffer).write(event.SerializeToString(deterministic=True))
    return buffer.getvalue()


def _describe_study(summary: Any, started: StudyStarted) -> None:
    """Name the searched parameters and the scores that the page of hyperparameters shows."""
    from tensorboard.plugins.hparams import summary_v2 as hparams

    names = started.config.get("sweep", {}).get("objectives") or [started.objective]
    scores = [*names, *(f"final/{name}" for name in names)]
    scores += [f"final/{name.replace('tune/', 'holdout/')}" for name in names if "tune/" in name]
    summary.MergeFrom(
        hparams.hparams_config_pb(
            hparams=[
                hparams.HParam(name, _domain(entry["values"]))
                for name, entry in started.space.items()
            ],
            metrics=[hparams.Metric(score) for score in scores],
            time_created_secs=started.time,
        )
    )


def _domain(distribution: str) -> Any:
    """Return the domain of a parameter from its distribution, as JSON."""
    from tensorboard.plugins.hparams import summary_v2 as hparams

    values = json.loads(distribution)["attributes"]
    if "choices" not in values:
        return hparams.RealInterval(float(values["low"]), float(values["high"]))
    return hparams.Discrete([str(choice) for choice in values["choices"]], dtype=str)


def _describe_trial(summary: Any, event: TrialAsked, name: str) -> None:
    from tensorboard.plugins.hparams import summary_v2 as hparams

    values = {key: _shown(key, value) for key, value in event.params.items()}
    summary.MergeFrom(hparams.hparams_pb(values, trial_id=name, start_time_secs=event.time))


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return MASK if secret(name) else masked_text(str(value))


def _end_trial(summary: Any, event: TrialEnded) -> None:
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_FAILURE if event.state == "failed" else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=event.time)
    content = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(content),
        tensor=metadata.NULL_TENSOR,
    )
