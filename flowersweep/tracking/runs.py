"""Find, create and update the MLflow runs of a study."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flowersweep.errors import TrackingError
from flowersweep.study.events import StudyStarted, TrialEnded
from flowersweep.tracking import artifacts
from flowersweep.tracking.masking import masked, masked_text
from flowersweep.tracking.projection import MlflowProjection, RunUpdate
from flowersweep.tracking.store import sync_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

log = logging.getLogger(__name__)

METRICS_A_CALL = 800  # MLflow takes 1000 metrics, params and tags together
RUNS_A_PAGE = 1000


def exists(client: MlflowClient, run: str) -> bool:
    """Return whether the store knows this run."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(run) and client.get_run(run) is not None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def search(
    client: MlflowClient,
    experiments: list[str],
    tags: Mapping[str, str],
    more: str = "",
    *,
    deleted: bool = False,
) -> list[Run]:
    """Return all runs with these tags, the latest first; with ``deleted`` also deleted ones."""
    from mlflow.entities import ViewType

    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    clauses = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()]
    clauses += [more] if more else []
    matches: list[Run] = []
    token: str | None = ""
    while experiments and token is not None:
        page = client.search_runs(
            experiments,
            " and ".join(clauses),
            run_view_type=view,
            max_results=RUNS_A_PAGE,
            page_token=token or None,
        )
        matches += page
        token = page.token or None
    return matches


def find(
    client: MlflowClient,
    experiment: str,
    identity: Mapping[str, str],
    since: int | None = None,
    *,
    deleted: bool = False,
) -> dict[int | None, str]:
    """Return run ids by trial (None: the study's own), of runs started since ``since`` ms.

    With ``deleted`` a trial whose run was deleted in MLflow has that run: it is not made again.
    """
    entry = client.get_experiment_by_name(experiment)
    if entry is None:
        return {}
    condition = "" if since is None else f"attributes.start_time >= {since}"
    matches = search(client, [entry.experiment_id], identity, condition, deleted=deleted)
    # Sorted, so that every process picks the same of two runs of one trial, and no deleted one. A
    # second run appears if a machine lost its connection between creating a run and noting it.
    matches.sort(key=lambda run: (run.info.lifecycle_stage == "deleted", run.info.run_id))
    numbered = [(run.data.tags.get("flowersweep.trial"), run.info.run_id) for run in matches]
    return {None if trial is None else int(trial): run for trial, run in reversed(numbered)}


def best_trial(client: MlflowClient, study: Run) -> Run:
    """Return the run of the best trial of a study's run. Raises TrackingError if there is none."""
    tags = study.data.tags
    name, best = tags["flowersweep.study"], tags.get("flowersweep.best_trial")
    if best is None:
        raise TrackingError(
            f'the study "{name}" has no best trial yet: let it finish, or name the run of a trial: '
            "run=ID"
        )
    wanted = {key: tags[key] for key in ("flowersweep.study", "flowersweep.started")}
    trials = search(client, [study.info.experiment_id], wanted | {"flowersweep.trial": best})
    if not trials:
        raise TrackingError(
            f'the run of trial {best} of the study "{name}" was deleted. Restore it, or name '
            "another: run=ID"
        )
    return trials[0]


def create(
    client: MlflowClient,
    experiment: str,
    change: RunUpdate,
    study: StudyStarted,
    parent: str | None,
) -> Run:
    """Create and return the run of a change; ``parent`` is the study's run, or None."""
    provenance = study.provenance
    command = masked_text(provenance["command"]) if provenance.get("command") else None
    dirty = provenance.get("git_dirty")
    ours = {
        "git_dirty": None if dirty is None else str(dirty).lower(),
        "command": command,
        "seed": str(study.seed),
        "data": provenance.get("data", {}).get("name"),
        "data.digest": provenance.get("data", {}).get("digest"),
        "objective": study.objective,
        "direction": study.direction,
    }
    facts = {
        "mlflow.parentRunId": parent if change.trial is not None else None,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": command,
        "mlflow.source.git.commit": provenance.get("git_commit"),
        **{f"flowersweep.{key}": value for key, value in ours.items()},
    }
    tags = (
        {key: value[:5000] for key, value in facts.items() if value} | change.tags | change.identity
    )
    run = client.create_run(experiment, start_time=change.started, tags=tags, run_name=change.name)
    change.tags.clear()  # sent with the run itself, without another request
    return run


def write(
    client: MlflowClient,
    run: str,
    change: RunUpdate,
    fold: MlflowProjection,
    folder: Path,
    uri: str | None = None,
) -> None:
    """Write a change to its run; skip a run that was deleted in MLflow.

    Args:
        client: Client of the store.
        run: Run id.
        change: What to write.
        fold: The state of the study.
        folder: Folder of the study.
        uri: Artifact address of the run, if known.
    """
    from mlflow.exceptions import MlflowException

    try:
        _log_numbers(client, run, change)
        _log_files(client, run, change, fold, folder, uri)
        if change.begins and (data := _dataset(fold.study)) is not None:
            client.log_inputs(run, datasets=[data])
        if change.status == "RUNNING":
            client.update_run(run, status="RUNNING")
        elif change.status is not None:
            client.set_terminated(run, change.status, end_time=change.ended)
    except MlflowException as error:
        if (
            error.error_code != "INVALID_PARAMETER_VALUE"
            or client.get_run(run).info.lifecycle_stage != "deleted"
        ):
            raise
        restore = f"mlflow runs restore --run-id {run}"
        log.warning(
            "the run %s was deleted in MLflow and gets no more news (%s)", change.name, restore
        )


def _log_numbers(client: MlflowClient, run: str, change: RunUpdate) -> None:
    from mlflow.entities import Metric, Param, RunTag

    metrics = [
        Metric(point.key, point.value, point.milliseconds, point.step) for point in change.points
    ]
    params = [Param(key, value) for key, value in change.params.items()]
    tags = [RunTag(key, value) for key, value in change.tags.items()]
    client.log_batch(run, metrics[:METRICS_A_CALL], params, tags)
    for start in range(METRICS_A_CALL, len(metrics), METRICS_A_CALL):
        client.log_batch(run, metrics[start : start + METRICS_A_CALL])


def _log_files(
    client: MlflowClient,
    run: str,
    change: RunUpdate,
    fold: MlflowProjection,
    folder: Path,
    uri: str | None,
) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if change.files is None:
        return
    with TemporaryDirectory(prefix="flowersweep-") as name:
        if change.trial is None:
            artifacts.write_study(Path(name), fold.study, folder)
        else:
            has_files = isinstance(change.files, TrialEnded) and change.files.folder
            artifacts.write_trial(
                Path(name),
                fold.study,
                fold.record.trials[change.trial],
                folder / "trials" / str(change.trial) if has_files else None,
            )
        if uri is None:
            client.log_artifacts(run, name)
            uri = client.get_run(run).info.artifact_uri
        else:  # client.log_artifacts would first ask the store for the address, which is slow
            repository: Any = get_artifact_repository(uri, tracking_uri=client.tracking_uri)
            repository.log_artifacts(name)
    sync_files(str(uri))


def _dataset(study: StudyStarted) -> DatasetInput | None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = masked(study.provenance.get("data", {}))
    if not data.get("digest"):
        return None
    source = json.dumps({"uri": data.get("dir")})
    profile = json.dumps({"counts": data.get("counts"), "classes": len(data.get("classes") or ())})
    # MLflow takes 36 characters of a digest; the whole of it is a tag.
    dataset = Dataset(str(data.get("name")), data["digest"][:36], "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"
