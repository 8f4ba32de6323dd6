"""What the same number of trials without a sampler that follows anything would have given."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from flowersweep.config.paths import flatten
from flowersweep.errors import ConfigError
from flowersweep.evaluation.baseline import best_of_points
from flowersweep.evaluation.scores import Reals
from flowersweep.report.checks.audit import AuditItem
from flowersweep.report.study_view import StudyView
from flowersweep.space.constraints import Constraint, constraint
from flowersweep.space.designs import PLAIN_SAMPLERS, quasi_random_sequence
from flowersweep.space.space import Parameter, Space
from flowersweep.space.transforms import cdf
from flowersweep.study.objectives import direction
from flowersweep.study.records import TrialRecord

FEWEST, MOST = 10, 300  # complete trials: fewer say nothing of the space, more take long
SETS = 20


def baseline(study: StudyView) -> AuditItem | None:
    """Compare the best trial with the best of as many quasi-random ones.

    Returns:
        None where nothing can be said, or the sampler does not learn from trials itself.
    """
    best, ended = (
        study.best,
        [r for r in study.records if r.state in ("complete", "pruned") and r.value is not None],
    )
    ranged = tuple(p for p in study.parameters if not p.distribution.single() and p.path != "seed")
    sampler = study.started.config.get("sampler", {}).get("_target_")
    if (
        best is None
        or sampler in PLAIN_SAMPLERS
        or not ranged
        or len(study.complete) < FEWEST
        or len(ended) > MOST
    ):
        return None
    maximize = direction(study.objective) == "maximize"
    values = np.array([_worth(record, study, maximize=maximize) for record in ended])
    try:
        wanted = _wanted(study)
    except ConfigError:  # an expression that is no longer understood
        return None
    logged = not maximize and bool((values > 0).all())  # a likelihood can be many times another
    space, count = Space(study.parameters, _fixed(study), (), frozenset(), wanted), len(ended)
    drawn = [
        islice(filter(space.feasible, quasi_random_sequence(space, seed)), count)
        for seed in range(SETS)
    ]
    others = [np.array([_coordinates(ranged, point) for point in points]) for points in drawn]
    points = np.array([_coordinates(ranged, record.params) for record in ended])
    estimates = best_of_points(
        points, np.log(values) if logged else values, others, maximize=maximize
    )
    value, low, high = (float(np.exp(each)) if logged else each for each in estimates)
    assert best.value is not None
    surer = best.value > high if maximize else best.value < low
    title = f"{'Better than' if surer else 'Not surely better than'} {count} quasi-random trials"
    text = (
        f"The best trial has {study.objective} {best.value:.4g}; the best of {count} quasi-random "
        f"trials would have about {value:.4g} "
        f"(95 % interval {low:.4g} to {high:.4g}). A Gaussian process over these trials estimates "
        "it. It assumes that the objective "
        "changes smoothly with the parameters, and that pruned trials are no better than the "
        "worst complete one."
    )
    return AuditItem("note", title, text)


def _worth(record: TrialRecord, study: StudyView, *, maximize: bool) -> float:
    value, worst = float(record.value or 0.0), float(study.complete[-1].value or 0.0)
    return (
        value
        if record.state == "complete"
        else min(value, worst)
        if maximize
        else max(value, worst)
    )


def _wanted(study: StudyView) -> tuple[Constraint, ...]:
    """Return the study's constraints: no search would have trained a point that they forbid."""
    config = study.started.config
    names = {known: p.name for p in study.parameters for known in (p.name, p.path)}
    settings = dict(flatten(config))
    settings |= {
        path.removesuffix(".name"): value
        for path, value in settings.items()
        if path.endswith(".name")
    }
    searched = config.get("sweep", {}).get("space", {})
    settings |= {
        name: settings.get(entry["path"]) for name, entry in searched.items() if name not in names
    }
    return tuple(
        constraint(text, names, settings, ())
        for text in config.get("sweep", {}).get("constraints") or ()
    )


def _fixed(study: StudyView) -> dict[str, Any]:
    """Return the names of the chosen options, on which conditions may depend."""
    return {
        group: each["name"]
        for group, each in study.started.config.items()
        if isinstance(each, Mapping) and "name" in each
    }


def _coordinates(parameters: tuple[Parameter, ...], params: Mapping[str, Any]) -> Reals:
    """Return a point in the unit cube.

    A number is its share of the range, a choice has one coordinate an option, and an inactive
    parameter is 0.5.
    """
    point: list[float] = []
    for parameter in parameters:
        value, ranged = params.get(parameter.name), parameter.distribution
        if isinstance(ranged, CategoricalDistribution):
            point += [float(choice == value) for choice in ranged.choices]
        else:
            point.append(0.5 if value is None else min(max(cdf(ranged, value), 0.0), 1.0))
    return np.array(point)
