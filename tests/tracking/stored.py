"""What an MLflow store holds of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowersweep.config.schema import Tracking
from flowersweep.tracking import registry, store

LOCAL = Tracking()


def promote(
    study: str, tracking: Tracking, dir: Path, *, alias: str = "champion", **chosen: Any
) -> registry.ModelVersion:
    """Register the model of a study's best trial, and move an alias to it."""
    version = registry.register(study, tracking, dir, **chosen)
    return registry.move_alias(version, tracking, dir, alias=alias)


def snapshot(dir: Path, tracking: Tracking = LOCAL) -> dict[str, Any]:
    """Return all that the store holds of all runs, by run id."""
    client = store.client(tracking, dir)
    content = {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
        history = {
            key: sorted(
                (m.step, m.timestamp, m.value)
                for m in client.get_metric_history(run.info.run_id, key)
            )
            for key in run.data.metrics
        }
        files = sorted(files_of(client, run.info.run_id))
        info = (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time)
        content[run.info.run_id] = (
            info,
            run.data.tags,
            run.data.params,
            history,
            files,
            len(run.inputs.dataset_inputs),
        )
    return content


def states(study):
    """Return names and statuses of all runs."""
    return sorted((info[0], info[1]) for info, *_ in snapshot(study.dir).values())


def files_of(client: Any, run: str, path: str | None = None) -> list[str]:
    found = client.list_artifacts(run, path)
    return [
        name
        for item in found
        for name in (files_of(client, run, item.path) if item.is_dir else [item.path])
    ]


def artifact(dir: Path, run: str, path: str) -> str:
    client = store.client(LOCAL, dir)
    return (Path(client.get_run(run).info.artifact_uri.removeprefix("file://")) / path).read_text()
