"""The runs of a study in MLflow: found again by their tags, made, and told what happened."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flowersweep.study.events import StudyStarted, TrialEnded
from flowersweep.tracking import artifacts
from flowersweep.tracking.masking import masked, masked_text
from flowersweep.tracking.projection import MlflowProjection, RunUpdate

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

log = logging.getLogger(__name__)

METRICS_A_CALL = 800  # MLflow takes 1000 metrics, params and tags together
RUNS_A_PAGE = 1000


def exists(client: MlflowClient, run: str) -> bool:
    """Say whether the store knows this run."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(run) and client.get_run(run) is not None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def search(
    client: MlflowClient, experiments: list[str], tags: Mapping[str, str], more: str = ""
) -> list[Run]:
    """Return all runs that are not deleted and have these tags, the latest first."""
    clauses = [f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items()] + (
        [more] if more else []
    )
    found: list[Run] = []
    token: str | None = ""
    while experiments and token is not None:
        page = client.search_runs(
            experiments, " and ".join(clauses), max_results=RUNS_A_PAGE, page_token=token or None
        )
        found += page
        token = page.token or None
    return found


def find(
    client: MlflowClient, experiment: str, identity: Mapping[str, str], since: int | None = None
) -> dict[int | None, str]:
    """Return the run ids of a study by trial (None: the study's own), of runs begun at ``since`` milliseconds or later."""
    known = client.get_experiment_by_name(experiment)
    if known is None:
        return {}
    more = "" if since is None else f"attributes.start_time >= {since}"
    found = search(client, [known.experiment_id], identity, more)
    ids = [(run.data.tags.get("flowersweep.trial"), run.info.run_id) for run in found]
    # Sorted, so that of two runs of one trial (a machine was cut off between asking for one and noting it) all pick the same.
    return {
        None if trial is None else int(trial): run
        for trial, run in sorted(ids, key=str, reverse=True)
    }


def create(
    client: MlflowClient,
    experiment: str,
    change: RunUpdate,
    study: StudyStarted,
    parent: str | None,
) -> Run:
    """Make the run of a change and return it; ``parent`` is the run of the study, None for that run itself."""
    provenance = study.provenance
    facts = {
        "mlflow.parentRunId": parent if change.trial is not None else None,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": masked_text(provenance["command"])
        if provenance.get("command")
        else None,
        "mlflow.source.git.commit": provenance.get("git_commit"),
        "flowersweep.git_dirty": str(provenance["git_dirty"]).lower()
        if provenance.get("git_dirty") is not None
        else None,
        "flowersweep.command": masked_text(provenance["command"])
        if provenance.get("command")
        else None,
        "flowersweep.seed": str(study.seed),
        "flowersweep.data": provenance.get("data", {}).get("name"),
        "flowersweep.data.digest": provenance.get("data", {}).get("digest"),
        "flowersweep.objective": study.objective,
        "flowersweep.direction": study.direction,
    }
    tags = (
        {key: value[:5000] for key, value in facts.items() if value} | change.tags | change.identity
    )
    run = client.create_run(experiment, start_time=change.started, tags=tags, run_name=change.name)
    change.tags.clear()  # told with the run itself they cost nothing
    return run


def write(
    client: MlflowClient,
    run: str,
    change: RunUpdate,
    fold: MlflowProjection,
    folder: Path,
    uri: str | None = None,
) -> None:
    """Tell one run all of a change; ``folder`` is the study's, ``uri`` where its files go, if that is known.

    A run that was deleted in MLflow is left in peace.
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
        log.warning(
            "the run %s was deleted in MLflow and gets no more news (mlflow runs restore "
            "--run-id %s)",
            change.name,
            run,
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
            left = change.files.folder if isinstance(change.files, TrialEnded) else None
            artifacts.write_trial(
                Path(name),
                fold.study,
                fold.record.trials[change.trial],
                folder / left if left else None,
            )
        if uri is None:
            client.log_artifacts(run, name)
        else:  # as it does, but it would ask the store where they go, which takes longer than to write them
            repository: Any = get_artifact_repository(uri, tracking_uri=client.tracking_uri)
            repository.log_artifacts(name)


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
