"""A run as MLflow has it, read back: all that is needed to train it again, or to show it, without the journal it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import yaml

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking import runs, store
from flowersweep.tracking.masking import masked_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Curve = dict[int, float]  # epochs done -> value


@dataclass(frozen=True)
class RecordedRun:
    """One trained run. ``files`` is a folder with those of its files that there are, among them ``evaluation/logits.npz``."""

    run: str
    name: str
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    config: dict[str, Any]  # secrets masked
    provenance: dict[str, Any]
    curves: dict[str, Curve] = field(
        default_factory=dict
    )  # of the metrics that were logged epoch by epoch
    files: Path = Path()

    @property
    def state(self) -> str:
        return self.tags.get("flowersweep.state", "unknown")

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return max(self.curves.get("train/loss", {}), default=0)

    def file(self, name: str) -> Path | None:
        """Return where a file of the run lies; None if the run has none of this name."""
        return self.files / name if (self.files / name).exists() else None


def load_run(run: str, tracking: Tracking, dir: Path, into: Path) -> RecordedRun:
    """Read a run; of a study's own run, its best trial. Files that a server keeps are downloaded into ``into``.

    Raises TrackingError if the store does not know the run, or it is none of a training here.
    """
    from mlflow.exceptions import MlflowException

    client = store.client(tracking, dir)
    try:
        found = _trial(client, run)
        into.mkdir(parents=True, exist_ok=True)
        files = Path(_downloaded(client, found.info.run_id, into))
        metrics = dict(found.data.metrics)
        history = {
            key: client.get_metric_history(found.info.run_id, key)
            for key in metrics
            if key.startswith(("train/", "tune/"))
        }
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise TrackingError(
                f'MLflow has no run "{run}" ({error.message}). Take the id from the run\'s page: ui'
            ) from error
        raise store.unreachable(store.address(tracking, dir), error) from error
    missing = [name for name in ("config.yaml", "provenance.json") if not (files / name).exists()]
    if missing:
        raise TrackingError(
            f"the run {run} has no {' and no '.join(missing)}: it was not ended, or not begun by "
            "flowersweep"
        )
    return RecordedRun(
        run=found.info.run_id,
        name=str(found.info.run_name),
        parent=found.data.tags.get("mlflow.parentRunId"),
        tags=dict(found.data.tags),
        params=dict(found.data.params),
        metrics=metrics,
        config=yaml.safe_load((files / "config.yaml").read_text()),
        provenance=json.loads((files / "provenance.json").read_text()),
        curves={
            key: {m.step: m.value for m in points if m.step}
            for key, points in history.items()
            if _by_epoch(key, points)
        },
        files=files,
    )


def attach(
    run: str,
    tracking: Tracking,
    dir: Path,
    *,
    files: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Add texts by file name, and tags, to a run; secrets are masked. Raises TrackingError if the store does not take them."""
    from mlflow.exceptions import MlflowException

    client = store.client(tracking, dir)
    try:
        for name, text in (files or {}).items():
            client.log_text(run, masked_text(text), name)
        for key, value in (tags or {}).items():
            client.set_tag(run, key, masked_text(value))
    except (MlflowException, OSError) as error:
        raise store.unreachable(store.address(tracking, dir), error) from error


def attach_files(runs_files: Mapping[str, list[Path]], tracking: Tracking, dir: Path) -> None:
    """Add files to runs, by the id of the run. Raises TrackingError if the store does not take them."""
    from mlflow.exceptions import MlflowException

    client = store.client(tracking, dir)
    try:
        for run, paths in runs_files.items():
            for path in paths:
                client.log_artifact(run, str(path))
    except (MlflowException, OSError) as error:
        raise store.unreachable(store.address(tracking, dir), error) from error


def changes(found: RecordedRun, tracking: Tracking, dir: Path, into: Path) -> Path | None:
    """Return where the changes of a run's code against its git commit lie; None if it has none.

    Raises:
        TrackingError: The store does not answer.
    """
    from mlflow.exceptions import MlflowException

    client, run = store.client(tracking, dir), str(found.parent or found.run)
    try:
        if not any(file.path == "code.diff" for file in client.list_artifacts(run)):
            return None
        return Path(client.download_artifacts(run, "code.diff", str(into)))
    except (MlflowException, OSError) as error:
        raise store.unreachable(store.address(tracking, dir), error) from error


def _by_epoch(key: str, points: Sequence[Any]) -> bool:
    """Say whether a metric was logged epoch by epoch, be it one; of tune/ some come at the end alone."""
    return len(points) > 1 or key.startswith("train/")


def _trial(client: MlflowClient, run: str) -> Run:
    found = client.get_run(run)
    if found.data.tags.get("flowersweep.kind") != "study":
        return found
    best = found.data.tags.get("flowersweep.best_trial")
    if best is None:
        raise TrackingError(
            f'the run {run} is that of the study "{found.info.run_name}", which has no best trial '
            "yet: name a trial's run"
        )
    tags = {key: found.data.tags[key] for key in ("flowersweep.study", "flowersweep.begun")} | {
        "flowersweep.trial": best
    }
    trials = runs.search(client, [found.info.experiment_id], tags)
    if not trials:
        raise TrackingError(
            f'the run of trial {best} of the study "{found.info.run_name}" was deleted: name '
            "another run"
        )
    return trials[0]


def _downloaded(client: MlflowClient, run: str, into: Path) -> str:
    """Return a folder with the files of a run; one that lies on this machine is not copied."""
    location = str(client.get_run(run).info.artifact_uri)
    if location.startswith("file://"):
        return url2pathname(urlparse(location).path)
    return str(client.download_artifacts(run, "", str(into)))
