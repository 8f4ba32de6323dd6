"""A study on MLflow's pages: the description of its experiment, and links to its runs.

A link opens a stored view. MLflow keeps it as a tag of the experiment, in the format of its button
*Share*: the filter, the order and the columns of the table.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from flowersweep.config.schema import Tracking
from flowersweep.study.journal import read_events
from flowersweep.study.records import StudyRecord, TrialRecord
from flowersweep.tracking import store
from flowersweep.tracking.masking import masked_text, secret
from flowersweep.tracking.projection import valid

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"
VIEW = "mlflow.sharedViewState."
LONGEST = 4900  # characters of a tag
HELD_OUT = ("holdout/macro_f1", "holdout/accuracy", "holdout/nll")
PARALLEL = "Parallel coordinates"
SHOWN = {"deleted": False, "isReordered": False, "isGenerated": False}
STATES = ("complete", "pruned", "failed", "running")


class Links(NamedTuple):
    """Addresses of MLflow's pages about one study."""

    runs: str  # its trials as a table, the best first
    comparison: str  # the same trials as charts


def write(client: MlflowClient, record: StudyRecord) -> None:
    """Describe a study in the note of its experiment, and store the view of its runs.

    What else is in the note stays: other studies may share the experiment.
    """
    entry = client.get_experiment_by_name(record.started.experiment)
    if entry is None or entry.lifecycle_stage == "deleted":
        return
    number, name = entry.experiment_id, record.started.study
    client.set_experiment_tag(number, VIEW + _key(name), json.dumps(_view(record)))
    heading = f"### {name}"
    others = str(entry.tags.get(NOTE, "")).split("\n\n### ")
    parts = [others[0], *(f"### {text}" for text in others[1:])]
    kept = [part for part in parts if part.strip() and part.partition("\n")[0] != heading]
    note = "\n\n".join([*kept, f"{heading}\n\n{_description(record)}"])
    if len(note) <= LONGEST:
        client.set_experiment_tag(number, NOTE, note)


def links(journal: Path, tracking: Tracking, dir: Path, server: str | None = None) -> Links | None:
    """Return where MLflow shows a study; None if it does not have the study yet.

    Args:
        journal: The journal of the study.
        tracking: Which store it is in.
        dir: Folder of the default store.
        server: Address of a server; None if the store is one.

    Raises:
        TrackingError: The store does not answer.
        StudyError: The journal is damaged.
    """
    if not (record := StudyRecord(read_events(journal, most=1)[0])):
        return None
    with store.connected(tracking, dir) as client:
        entry = client.get_experiment_by_name(record.started.experiment)
    key = _key(record.started.study)
    if entry is None or VIEW + key not in entry.tags:
        return None
    words = {"workflowType": "machine_learning", "viewStateShareKey": key}
    base = f"{server or store.address(tracking, dir)}/#/experiments/{entry.experiment_id}/runs?"
    return Links(base + urlencode(words), base + urlencode({"compareRunsMode": "CHART", **words}))


def _key(study: str) -> str:
    return hashlib.sha256(study.encode()).hexdigest()[:16]


def _view(record: StudyRecord) -> dict[str, Any]:
    """Return the state of MLflow's table of runs: the trials of a study, the best first."""
    started = record.started
    quoted = started.study.replace("'", "")
    columns = [f"metrics.`{valid(name)}`" for name in record.objectives]
    columns += [f"metrics.`{name}`" for name in HELD_OUT]
    columns += [f"params.`{valid(name)}`" for name in started.space][:30]
    columns += ["tags.`flowersweep.state`", "attributes.`Duration`"]
    # the chart leaves out a run that lacks one of its parameters
    always = [valid(n) for n, e in started.space.items() if not dict(e).get("when")]
    return {
        "searchFilter": f"tags.`flowersweep.kind` = 'trial' AND tags.`flowersweep.study` = "
        f"'{quoted}'",
        "orderByKey": f"metrics.`{valid(started.objective)}`",
        "orderByAsc": started.direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": columns,
        "compareRunSections": [{**SHOWN, "uuid": PARALLEL, "name": PARALLEL, "display": True}],
        "compareRunCharts": [
            {
                **SHOWN,
                "type": "PARALLEL",
                "uuid": "parallel",
                "metricSectionId": PARALLEL,
                "runsCountToCompare": 100,
                "showAllRuns": True,
                "selectedParams": always[:30],
                "selectedMetrics": [valid(started.objective)],
            }
        ],
        "isAccordionReordered": True,  # in the order above
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _description(record: StudyRecord) -> str:
    """Say what was searched and what came out, in Markdown."""
    started = record.started
    searched = ", ".join(f"`{name}`" for name in started.space) or "nothing"
    states = Counter(trial.state for trial in record.trials)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    data = started.provenance.get("data", {}).get("name")
    lines = [
        f"Searched: {searched}" + (f", on {data}." if data else "."),
        f"Objective: `{started.objective}`, to {started.direction}.",
        f"Trials: {counts or 'none yet'}." + " The study is running." * record.running,
    ]
    return "\n\n".join([*lines, *([_best(record, record.best)] if record.best else [])])


def _best(record: StudyRecord, best: TrialRecord) -> str:
    params = ", ".join(
        f"`{name}` = {value:.4g}" if isinstance(value, float) else f"`{name}` = {value}"
        for name, value in best.params.items()
        if not secret(name)
    )
    held_out = best.metrics.get("holdout/macro_f1")
    scores = f" and held-out macro F1 {held_out:.4f}" if held_out is not None else ""
    value = f"{best.value:.4f}" if best.value is not None else "no value"
    return masked_text(
        f"Best: trial {best.number}, {value}{scores}" + (f", with {params}." if params else ".")
    )
