"""The model registry: versions of one registered model, and aliases such as ``champion``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError, did_you_mean
from flowersweep.evaluation.gate import FALSE_CHAMPIONS, spent_budget
from flowersweep.tracking import runs
from flowersweep.tracking.loading import (
    CHAMPION,
    chosen_version,
    find_run,
    load,
    model_metadata,
    network_file,
)
from flowersweep.tracking.logged import find_model, log_model
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.store import address, client, connected, sync_files, unreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion as ModelVersion

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "attach",
    "count_comparison",
    "evidence_run",
    "find_run",
    "holder",
    "load",
    "log_model",
    "model_metadata",
    "move_alias",
    "network_file",
    "register",
    "restore",
]

CHALLENGER = "challenger"  # the alias of a version that the gate refused


def register(
    study: str,
    tracking: Tracking,
    dir: Path,
    *,
    run: str | None = None,
    evidence: Mapping[str, str] | None = None,
) -> ModelVersion:
    """Register the logged model of the study's best trial, or of ``run``, without an alias.

    A run never gets a second version. ``evidence`` becomes tags of the version.

    Raises:
        TrackingError: The study is unknown or has no best trial yet, or the run has no model.
    """
    with connected(tracking, dir) as store:
        run_id = run or _best_run(store, study)
        logged = find_model(store, run_id)
        if logged is None:
            raise TrackingError(
                f'the run {run_id} of the study "{study}" has no model in MLflow: the command of '
                "the sweep, run again, sends it there"
            )
        version = _version(store, tracking.registered_model, run_id, logged, study)
        for key, value in (evidence or {}).items():
            store.set_model_version_tag(version.name, version.version, key, value)
        return store.get_model_version(version.name, version.version)


def move_alias(
    version: ModelVersion,
    tracking: Tracking,
    dir: Path,
    *,
    alias: str = CHAMPION,
    compared_with: str | None = None,
) -> ModelVersion:
    """Move an alias to a version and note why.

    Args:
        version: Where the alias goes.
        tracking: Which store to use.
        dir: Folder of the default store.
        alias: What to move.
        compared_with: The version that must still have the alias, "" for none; None: any.

    Raises:
        TrackingError: Somebody has moved the alias since.
    """
    with connected(tracking, dir) as store:
        holder = dict(store.get_registered_model(version.name).aliases).get(alias, "")
        if compared_with is not None and str(holder) not in (compared_with, str(version.version)):
            raise TrackingError(
                f"the {alias} is version {holder or 'none'} by now, and this model was compared "
                f"with {compared_with or 'none'}. Run the same command again: nothing is trained "
                "twice"
            )
        tags = version.tags
        reason = tags.get("flowersweep.forced") or tags.get("flowersweep.claim") or "promoted"
        _move(store, version, alias, reason)
        return store.get_model_version(version.name, version.version)


def restore(version: int, tracking: Tracking, dir: Path, *, reason: str) -> ModelVersion:
    """Move the alias ``champion`` back to an existing version and note the reason.

    Raises:
        TrackingError: There is no such version; the message names the existing ones.
    """
    with connected(tracking, dir) as store:
        target = chosen_version(store, tracking.registered_model, None, version)
        _move(store, target, CHAMPION, reason)
        return store.get_model_version(target.name, target.version)


def _move(store: MlflowClient, version: ModelVersion, alias: str, why: str) -> None:
    """Move an alias; record each change of version as a tag of the registered model."""
    model = store.get_registered_model(version.name)
    before, number = dict(model.aliases).get(alias), str(version.version)
    store.set_registered_model_alias(version.name, alias, version.version)
    moves = sorted(key for key in model.tags if key.startswith(f"flowersweep.{alias}."))
    noted = bool(moves) and model.tags[moves[-1]].startswith(f"version {number} ")
    if str(before) == number and noted:
        return
    # A command that is killed after the move leaves no note: the next one writes it.
    place = "an unknown version" if str(before) == number else before or "none"
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H.%M.%S.%fZ")
    note = f"version {number} in place of {place}: {masked_text(why)}"
    store.set_registered_model_tag(version.name, f"flowersweep.{alias}.{when}", note[:5000])


def holder(tracking: Tracking, dir: Path, alias: str = CHAMPION) -> ModelVersion | None:
    """Return the version that has an alias; None if there is none."""
    from mlflow.exceptions import MlflowException

    store = client(tracking, dir)
    try:
        return store.get_model_version_by_alias(tracking.registered_model, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise unreachable(address(tracking, dir), error) from error


def evidence_run(version: ModelVersion) -> str:
    """Return the run whose model stands for a version on held-out images.

    It is another than the version's own if that was refit on all labelled images.
    """
    return str(version.tags.get("flowersweep.evidence_run", version.run_id))


def count_comparison(
    tracking: Tracking, dir: Path, *, images: str, challenger: str, champion: str | None
) -> int:
    """Record a comparison of a challenger with the champion, or with chance if there is none;
    return its number.

    The count is per set of held-out ``images`` and starts at 1. Tags of the registered model hold
    it, so all machines share one count. The same pair always has the same number. Another tag says
    how much of the error budget of these images is spent.

    Raises:
        TrackingError: The store does not answer.
    """
    name = tracking.registered_model
    prefix, pair = f"flowersweep.comparison.{images}.", f"{challenger} with {champion or 'chance'}"
    with connected(tracking, dir) as store:
        _create(store, name)
        pairs = _comparisons(store, name, prefix)
        if pair not in pairs:
            store.set_registered_model_tag(
                name, prefix + datetime.now(UTC).strftime("%Y-%m-%dT%H.%M.%S.%fZ"), pair
            )
            pairs = _comparisons(store, name, prefix)
            budget = f"{spent_budget(len(pairs)):.4f} of {FALSE_CHAMPIONS} spent"
            store.set_registered_model_tag(name, f"flowersweep.error_budget.{images}", budget)
        return pairs.index(pair) + 1


def _comparisons(store: MlflowClient, name: str, prefix: str) -> list[str]:
    """Return the compared pairs, oldest first."""
    tags = store.get_registered_model(name).tags
    return [tags[key] for key in sorted(tags) if key.startswith(prefix)]


def attach(
    version: ModelVersion,
    tracking: Tracking,
    dir: Path,
    *,
    description: str,
    files: Mapping[str, str],
) -> None:
    """Set a version's description, and save texts by file name under ``promotion/`` of its run."""
    with connected(tracking, dir) as store:
        store.update_model_version(version.name, version.version, description)
        for name, text in files.items():
            store.log_text(str(version.run_id), text, f"promotion/{name}")
        sync_files(store.get_run(str(version.run_id)).info.artifact_uri)


def _best_run(store: MlflowClient, study: str) -> str:
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    studies = runs.search(store, experiments, {"flowersweep.kind": "study"})
    names = [parent.data.tags["flowersweep.study"] for parent in studies]
    if names.count(study) > 1:
        raise TrackingError(
            f'MLflow has {names.count(study)} studies "{study}", and the folder of none is here. '
            "Name the run of the trial: run=ID"
        )
    if study not in names:
        hint = did_you_mean(study, {*names}, "Studies")
        raise TrackingError(f'MLflow knows no study "{study}". {hint}')
    return str(runs.best_trial(store, studies[names.index(study)]).info.run_id)


def _version(
    store: MlflowClient, name: str, run: str, logged: LoggedModel, study: str
) -> ModelVersion:
    """Return the version that ``run`` has in the registered model; create it if there is none."""
    _create(store, name)
    existing = [
        version
        for version in store.search_model_versions(f"name = '{name}' and run_id = '{run}'")
        if version.run_id == run
    ]
    if existing:
        return min(existing, key=lambda version: int(version.version))
    # Not models:/ID: to resolve that, the database store asks MLflow's global default store.
    version = store.create_model_version(
        name,
        logged.artifact_location,
        run,
        {"flowersweep.study": study},
        model_id=logged.model_id,
        await_creation_for=0,
    )
    links = json.loads(logged.tags.get("mlflow.modelVersions", "[]"))
    links.append({"name": name, "version": version.version})
    store.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": json.dumps(links)})
    return version


def _create(store: MlflowClient, name: str) -> None:
    """Create the registered model unless it exists."""
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
