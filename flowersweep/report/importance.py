"""Which parameters decided whether a trial was among the best: PED-ANOVA with intervals over trials."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from flowersweep.report.reading import Reading

FEWEST = 10  # trials, below which an importance says nothing
SAMPLES = 30
MOST = 1000  # trials that are looked at: more change little, and each half of them is given to Optuna again


@dataclass(frozen=True)
class Importance:
    """A parameter's share of what decides, with its 90 % interval over trials."""

    name: str
    share: float
    low: float
    high: float


def importances(study: Reading, seed: int = 0) -> list[Importance]:
    """Return the parameters by importance (Watanabe et al. 2023, with conditional ones as in Optuna); empty below ten trials.

    A pruned trial counts as no better than the worst complete one: it was stopped because others were better. The interval is from
    halves of the trials drawn at random, whose spread is that of the whole (Shao & Wu 1989): drawing with replacement would repeat
    trials, which the density estimate takes for peaks.
    """
    trials = _trials(study)
    if len(trials) < FEWEST:
        return []
    rng = np.random.default_rng(seed)
    if len(trials) > MOST:
        trials = [trials[i] for i in sorted(rng.permutation(len(trials))[:MOST])]
    whole = _shares(trials, study)
    halves = [rng.permutation(len(trials))[: len(trials) // 2] for _ in range(SAMPLES)]
    drawn = [_shares([trials[i] for i in half], study) for half in halves]
    found = []
    for name, share in whole.items():
        reach = 1.645 * float(np.std([shares.get(name, 0.0) for shares in drawn]))
        found.append(Importance(name, share, max(share - reach, 0.0), min(share + reach, 1.0)))
    return sorted(found, key=lambda each: -each.share)


def _trials(study: Reading) -> list[FrozenTrial]:
    complete = study.complete
    if not complete:
        return []
    worst, larger_is_worse = float(complete[-1].value or 0), study.started.direction == "minimize"
    found = []
    for record in study.records:
        if record.state not in ("complete", "pruned") or record.value is None:
            continue
        value = record.value if record.state == "complete" else max(record.value, worst) if larger_is_worse else min(record.value, worst)
        distributions = {p.name: p.distribution for p in study.parameters if p.name in record.params}
        params = {name: record.params[name] for name in distributions}
        with contextlib.suppress(ValueError):  # a value given by hand, outside the range
            found.append(optuna.trial.create_trial(value=value, params=params, distributions=distributions))
    return found


def _shares(trials: Sequence[FrozenTrial], study: Reading) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # half a second

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(direction=study.started.direction)
    made.add_trials(trials)
    top = min(0.5, max(0.1, 5 / len(trials)))  # at least five trials, as its authors ask
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few trials in a branch: the interval says so
        shares: dict[str, float] = get_param_importances(made, evaluator=PedAnovaImportanceEvaluator(target_quantile=top))
    return shares
