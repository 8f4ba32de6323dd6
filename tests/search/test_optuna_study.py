"""An Optuna study that was rebuilt from the journal suggests and prunes as the one that was never
closed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import optuna
import pytest

from flowersweep.config.compose import compose, parse
from flowersweep.config.schema import Config
from flowersweep.search import optuna_study
from flowersweep.search.samplers import factory
from flowersweep.space.space import Space, build_space
from tests.events import fold

EPOCHS = (2, 4, 6, 8)


def curve(params: dict[str, Any], epoch: int) -> float:
    """A made-up learning curve: better with more epochs and near one rate."""
    return abs(params["learning_rate"] - 0.01) * 20 + params["warmup"] + 1.0 / epoch


def play(config: Config, space: Space, trials: int, *, rebuild: bool) -> list[tuple[Any, ...]]:
    """Run trials on the made-up curves; with ``rebuild``, from a study made anew before each of
    them, and again when it was asked for.
    """
    events: list[dict[str, Any]] = []
    study = optuna_study.rebuild_study([], space, config)
    for number in range(trials):
        if rebuild:
            study = optuna_study.rebuild_study(fold(events).trials, space, config)
        trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
        events.append({"event": "trial_asked", "trial": number, "params": params})
        if rebuild:
            study = optuna_study.rebuild_study(fold(events).trials, space, config)
            trial, again = optuna_study.ask_trial(
                study, number, space=space, config=config, known=params
            )
            assert again == params
        state, value = "complete", 0.0
        for epoch in EPOCHS:
            value = curve(params, epoch)
            events.append(
                {
                    "event": "epochs_reported",
                    "trial": number,
                    "epochs": [{"epoch": epoch}],
                    "value": value,
                }
            )
            trial.report(value, epoch)
            if epoch < EPOCHS[-1] and trial.should_prune():
                state = "pruned"
                break
        attributes = optuna_study.optuna_attrs(study, trial)
        study.tell(trial, value if state == "complete" else None, state=optuna_study.STATES[state])
        events.append(
            {
                "event": "trial_ended",
                "trial": number,
                "state": state,
                "value": value,
                "attributes": attributes,
            }
        )
    return [
        (r.params, r.reports, r.state, r.value, r.ended and r.ended.attributes)
        for r in fold(events).trials
    ]


PAIRS = [
    (sampler, "hyperband")
    for sampler in ("default", "tpe", "cma_es", "gp", "qmc", "grid", "random")
]
PAIRS += [("default", pruner) for pruner in ("successive_halving", "median", "none")]
EXTRAS = {"cma_es": "cmaes", "gp": "torch"}


@pytest.mark.parametrize(("sampler", "pruner"), PAIRS)
def test_rebuilding_before_every_trial_changes_nothing(sampler: str, pruner: str) -> None:
    pytest.importorskip(EXTRAS.get(sampler, "optuna"))
    words = (
        "+sweep=smoothing",
        f"pruner={pruner}",
        f"sampler={sampler}",
        *(["sampler.steps=3"] if sampler == "grid" else []),
    )
    config = replace(compose(words), train=replace(compose(words).train, epochs=EPOCHS[-1]))
    space = build_space(config, words, parse(words))
    kept, rebuilt = (play(config, space, 30, rebuild=rebuild) for rebuild in (False, True))
    assert kept == rebuilt
    assert ("pruned" in {state for _, _, state, *_ in kept}) == (pruner != "none")
    assert len({str(params) for params, *_ in kept}) == 30


def test_a_suggestion_depends_on_the_seed_of_the_study() -> None:
    config = compose(["+sweep=smoothing"])
    space = build_space(config, ("+sweep=smoothing",), [])
    draws = [factory.make_sampler(replace(config, seed=seed), 5, space) for seed in (0, 1, 0)]
    first, second, third = (
        space.suggest(optuna.create_study(sampler=sampler).ask()) for sampler in draws
    )
    assert first == third != second
