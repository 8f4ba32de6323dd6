"""The importance of parameters for being among the best: PED-ANOVA, with intervals over trials."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from flowersweep.report.study_view import StudyView

FEWEST = 10  # trials, below which an importance says nothing
SAMPLES = 30
# trials that are looked at: more change little, and each half of them is given to Optuna again
MOST = 1000


@dataclass(frozen=True)
class Importance:
    """A parameter's share of what decides, with its 90 % interval over trials."""

    name: str
    share: float
    low: float
    high: float


def importances(study: StudyView, seed: int = 0) -> list[Importance]:
    """Return the parameters by importance; none of them below ten trials.

    See Watanabe et al. 2023. Conditional parameters count as in Optuna.

    A pruned trial counts as no better than the worst complete one: it was stopped because others
    were better. The interval is from halves of the trials drawn at random, whose spread is that of
    the whole (Shao & Wu 1989): drawing with replacement would repeat trials, which the density
    estimate takes for peaks.
    """
    trials = _trials(study)
    if len(trials) < FEWEST:
        return []
    rng = np.random.default_rng(seed)
    if len(trials) > MOST:
        trials = [trials[i] for i in sorted(rng.permutation(len(trials))[:MOST])]
    count = len(trials) // 2
    top = top_fraction(count)
    whole = _shares(trials, study, top)
    halves = [rng.permutation(len(trials))[:count] for _ in range(SAMPLES)]
    samples = [_shares([trials[i] for i in half], study, top) for half in halves]
    rows = []
    for name, share in whole.items():
        reach = 1.645 * float(np.std([shares.get(name, 0.0) for shares in samples]))
        rows.append(Importance(name, share, max(share - reach, 0.0), min(share + reach, 1.0)))
    return sorted(rows, key=lambda row: -row.share)


def top_fraction(trials: int) -> float:
    """Return which share of so many trials counts as good: a tenth, or five trials.

    The authors of PED-ANOVA ask for it.

    The share of a half of the trials is that of the whole too: another would be another quantity.
    """
    return min(0.5, max(0.1, 5 / trials))


def _trials(study: StudyView) -> list[FrozenTrial]:
    complete = study.complete
    if not complete:
        return []
    worst, larger_is_worse = float(complete[-1].value or 0), study.started.direction == "minimize"
    trials = []
    for record in study.records:
        if record.state not in ("complete", "pruned") or record.value is None:
            continue
        value = record.value
        if record.state == "pruned":
            value = max(value, worst) if larger_is_worse else min(value, worst)
        distributions = {
            p.name: p.distribution for p in study.parameters if p.name in record.params
        }
        params = {name: record.params[name] for name in distributions}
        with contextlib.suppress(ValueError):  # a value given by hand, outside the range
            trials.append(
                optuna.trial.create_trial(value=value, params=params, distributions=distributions)
            )
    return trials


def _shares(trials: Sequence[FrozenTrial], study: StudyView, top: float) -> dict[str, float]:
    # half a second
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rebuilt = optuna.create_study(direction=study.started.direction)
    rebuilt.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few trials in a branch: the interval says so
        shares: dict[str, float] = get_param_importances(
            rebuilt, evaluator=PedAnovaImportanceEvaluator(target_quantile=top)
        )
    return shares
