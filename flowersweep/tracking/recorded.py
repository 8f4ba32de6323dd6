"""Read a run back from MLflow: enough to replay or show it without its journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """One trained run, as MLflow has it."""

    run: str
    name: str
    parent: str | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    config: dict[str, Any]  # secrets masked
    provenance: dict[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)  # metrics logged after each epoch
    files: Path = Path()  # folder with the run's files, such as evaluation/logits.npz

    @property
    def state(self) -> str:
        return self.tags.get("flowersweep.state", "unknown")

    @property
    def epochs(self) -> int:
        """The number of trained epochs."""
        return max(self.curves.get("train/loss", {}), default=0)

    def file(self, name: str) -> Path | None:
        """Return the path of a file of the run; None if there is no such file."""
        return self.files / name if (self.files / name).exists() else None


def load_run(run: str, tracking: Tracking, dir: Path, into: Path) -> RecordedRun:
    """Read a run; for the run of a study, read its best trial.

    Args:
        run: Run id.
        tracking: Which store to use.
        dir: Folder of the default store.
        into: Folder for files that have to be downloaded from a server.

    Raises:
        TrackingError: The store does not know the run, or flowersweep did not train it.
    """
    from mlflow.exceptions import MlflowException

    with store.connected(tracking, dir) as client:
        try:
            mlflow_run = _trial(client, run)
            into.mkdir(parents=True, exist_ok=True)
            files = _downloaded(client, mlflow_run, into)
            curves = _curves(client, mlflow_run)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise TrackingError(
                f'MLflow has no run "{run}" ({error.message}). Take the id from the run\'s page: ui'
            ) from error
    missing = [name for name in ("config.yaml", "provenance.json") if not (files / name).exists()]
    if missing:
        raise TrackingError(
            f"the run {run} has no {' and no '.join(missing)}: it was not ended, or not started by "
            "flowersweep"
        )
    return RecordedRun(
        run=mlflow_run.info.run_id,
        name=str(mlflow_run.info.run_name),
        parent=mlflow_run.data.tags.get("mlflow.parentRunId"),
        tags=dict(mlflow_run.data.tags),
        params=dict(mlflow_run.data.params),
        metrics=dict(mlflow_run.data.metrics),
        config=yaml.safe_load((files / "config.yaml").read_text()),
        provenance=json.loads((files / "provenance.json").read_text()),
        curves=curves,
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
    """Add texts (by file name) and tags to a run; secrets are masked.

    Raises:
        TrackingError: The store does not answer or refuses.
    """
    with store.connected(tracking, dir) as client:
        for name, text in (files or {}).items():
            client.log_text(run, masked_text(text), name)
        store.sync_files(client.get_run(run).info.artifact_uri)
        for key, value in (tags or {}).items():
            client.set_tag(run, key, masked_text(value))


def attach_files(runs_files: Mapping[str, list[Path]], tracking: Tracking, dir: Path) -> None:
    """Add files to runs, by run id.

    Raises:
        TrackingError: The store does not answer or refuses.
    """
    with store.connected(tracking, dir) as client:
        for run, paths in runs_files.items():
            for path in paths:
                client.log_artifact(run, str(path))
            store.sync_files(client.get_run(run).info.artifact_uri)


def changes(recorded: RecordedRun, tracking: Tracking, dir: Path, into: Path) -> Path | None:
    """Return the path of the diff of a run's code against its git commit; None if there is none.

    Raises:
        TrackingError: The store does not answer.
    """
    run = str(recorded.parent or recorded.run)
    with store.connected(tracking, dir) as client:
        if not any(file.path == "code.diff" for file in client.list_artifacts(run)):
            return None
        return Path(client.download_artifacts(run, "code.diff", str(into)))


def _curves(client: MlflowClient, run: Run) -> dict[str, Curve]:
    """Return the metrics that were logged after each epoch; some of tune come only at the end."""
    curves = {}
    for key in run.data.metrics:
        if key.startswith(("train/", "tune/")):
            points = client.get_metric_history(run.info.run_id, key)
            if len(points) > 1 or key.startswith("train/"):
                curves[key] = {point.step: point.value for point in points if point.step}
    return curves


def _trial(client: MlflowClient, run: str) -> Run:
    mlflow_run = client.get_run(run)
    is_study = mlflow_run.data.tags.get("flowersweep.kind") == "study"
    return runs.best_trial(client, mlflow_run) if is_study else mlflow_run


def _downloaded(client: MlflowClient, run: Run, into: Path) -> Path:
    """Return a folder with the files of a run; copy only what is on another machine."""
    location = str(run.info.artifact_uri)
    store.require_local(location, client.tracking_uri)
    local = store.local_path(location)
    return local or Path(client.download_artifacts(run.info.run_id, "", str(into)))
