"""KerasTuner's oracles as an engine: the same space and resume, and Hyperband's own rounds."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose, parse
from flowersweep.config.schema import Config
from flowersweep.search import optuna_study
from flowersweep.search.samplers.keras_tuner import encoding, hyperband
from flowersweep.search.samplers.keras_tuner.oracle import make_oracle
from flowersweep.search.trial_store import TrialStore
from flowersweep.space.grammar import parse_distribution
from flowersweep.space.space import Space, build_space
from flowersweep.study import records as history
from flowersweep.study.events import TrialEnded
from tests.conftest import TINY
from tests.events import fold, story
from tests.kills import Fork, until_it_ends
from tests.search.test_optuna_study import play

ORACLES = ["random", "bayesian", "hyperband"]


def made(*words: str) -> tuple[Config, Space]:
    line = ("engine=keras_tuner", *words)
    config = compose(line)
    return replace(config, train=replace(config.train, epochs=8)), build_space(
        config, line, parse(line)
    )


@pytest.mark.slow
@pytest.mark.parametrize("oracle", ORACLES)
def test_rebuilding_before_every_trial_changes_nothing(oracle: str) -> None:
    more, trials = (
        (["loss=focal", "oracle.num_initial_points=5"], 8) if oracle == "bayesian" else ([], 24)
    )
    config, space = made("+sweep=smoothing", f"oracle={oracle}", *more)
    kept, rebuilt = (play(config, space, trials, rebuild=rebuild) for rebuild in (False, True))
    assert kept == rebuilt
    other = play(replace(config, seed=1), space, 2, rebuild=False)
    assert [params for params, *_ in other] != [params for params, *_ in kept[:2]]


VALUES = {
    "interval(1, 5)": (1.0, 2.2, 5.0),
    "tag(log, interval(1e-4, 1))": (1e-4, 0.03, 1.0),
    "int(interval(1, 5))": (1, 2, 5),
    "tag(log, int(interval(1, 64)))": (1, 6, 64),
    "range(0, 11, 5)": (0, 5, 10),
    "range(0, 0.4, 0.1)": (0.0, 0.1, 0.2, 0.30000000000000004),
    "choice(a, 2, 2.5, true)": ("a", 2, 2.5, True),
    "choice(a)": ("a",),
    "interval(2, 2)": (2.0,),
}


@pytest.mark.parametrize(("values", "some"), VALUES.items(), ids=VALUES.keys())
def test_a_value_is_the_same_after_kerastuner_had_it(values: str, some: tuple[Any, ...]) -> None:
    made = parse_distribution("x", values)
    found = [encoding.decoded(made, encoding.encoded(made, value)) for value in some]
    assert found == pytest.approx(some) if isinstance(some[0], int | float) else found == [*some]
    assert list(map(type, found)) == list(map(type, some))
    assert all(made._contains(made.to_internal_repr(value)) for value in found)


@pytest.mark.parametrize("oracle", ["random", "bayesian"])
def test_an_oracle_suggests_points_of_the_same_conditional_space(oracle: str) -> None:
    """Three levels of conditions, whole numbers, logarithms and numbers among the choices."""
    few = ["oracle.num_initial_points=2"] if oracle == "bayesian" else []
    config, space = made("+sweep=recipe", "train=finetune", f"oracle={oracle}", *few)
    study, seen = optuna_study.rebuild_study([], space, config), Counter[str]()
    for number in range(40 if oracle == "random" else 4):
        trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
        assert params == space.fill_active(lambda p, params=params: params.get(p.name))  # type: ignore[misc]
        suggested = trial.relative_params
        assert {name: suggested[name] for name in params} == params  # none of them by chance
        assert space.config(params)
        seen.update([*params, f"mix_probability={params['mix_probability']}"])
        study.tell(trial, params["learning_rate"])
    if oracle == "random":
        assert 8 < seen["label_smoothing"] < 32
        assert 0 < seen["cutmix_alpha"] < seen["cutmix_share"] < 40
        assert len([name for name in seen if name.startswith("mix_probability=")]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["tune/nll", "tune/accuracy"])
def test_bayesian_optimization_finds_what_chance_does_not(objective: str) -> None:
    best = {}
    for oracle in ("random", "bayesian"):
        few = ["oracle.num_initial_points=6"] if oracle == "bayesian" else []
        config, space = made(
            "+sweep=smoothing",
            "loss=focal",
            f"oracle={oracle}",
            f"sweep.objective={objective}",
            *few,
        )
        study = optuna_study.rebuild_study([], space, config)
        for number in range(22):
            trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
            lost = (
                (params["gamma"] - 2) ** 2 / 5
                + (np.log10(params["learning_rate"]) + 2) ** 2
                + (params["warmup"] - 0.1) ** 2 * 40
            )
            study.tell(trial, lost if objective == "tune/nll" else -lost)
        best[oracle] = abs(study.best_value)
    assert best["bayesian"] < best["random"] / 2


def test_beside_others_a_trial_that_failed_teaches_the_bayesian_oracle_nothing() -> None:
    config, space = made("+sweep=smoothing", "oracle=bayesian", "oracle.num_initial_points=2")
    study = optuna_study.rebuild_study([], space, config)
    first, _ = optuna_study.ask_trial(study, 0, space=space, config=config)
    optuna_study.ask_trial(study, 1, space=space, config=config)
    study.tell(first, state=optuna.trial.TrialState.FAIL)
    for number in (2, 3):
        _, params = optuna_study.ask_trial(study, number, space=space, config=config)
        assert params


def test_a_round_ends_a_trial_that_was_begun_alone_and_went_on_beside_others() -> None:
    """Killed in flight, gone on with by workers, and killed again before it reported: the journal
    has its round, but no notes of it.
    """
    config, space = made("+sweep=smoothing", "oracle=hyperband", "sweep.report_interval_epochs=2")
    study = optuna_study.rebuild_study([], space, config)
    events = []
    for number in range(2):
        asked, params = optuna_study.ask_trial(study, number, space=space, config=config)
        beside = {"attributes": optuna_study.optuna_attrs(study, asked)} if number else {}
        events.append(
            {
                "event": "trial_asked",
                "trial": number,
                "params": params,
                "hyperband": optuna_study.hyperband_state(study, asked),
                **beside,
            }
        )
    again = optuna_study.rebuild_study(fold(events).trials, space, config)
    trial = optuna_study.running_trials(again, 0)[0]
    trial.report(0.5, events[0]["hyperband"]["epochs"])
    assert trial.should_prune()


ACCUMULATE = (
    "+sweep.space.a={path: train.gradient_accumulation_steps, values: 'choice(1, 2, 4, 8)'}"
)


def test_a_small_space_is_used_up_before_anything_comes_twice() -> None:
    config, space = made("+sweep=quick", "oracle=random", "train.learning_rate=0.1", ACCUMULATE)
    drawn = [params["a"] for params in asked(config, space, 6)]
    assert {*drawn[:4]} == {1, 2, 4, 8}
    assert {*drawn[4:]} <= {1, 2, 4, 8}


def asked(config: Config, space: Space, trials: int) -> list[dict[str, Any]]:
    study, found = optuna_study.rebuild_study([], space, config), []
    for number in range(trials):
        trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
        study.tell(trial, float(number))
        found.append(params)
    return found


@pytest.mark.parametrize("objective", ["tune/nll", "tune/accuracy"])
def test_hyperband_promotes_whom_kerastuner_promotes(objective: str) -> None:
    """Against KerasTuner's own oracle, which is never rebuilt, given the points that ours drew; a
    trial fails now and then.
    """
    import keras_tuner

    words = (
        "+sweep=smoothing",
        "oracle=hyperband",
        f"sweep.objective={objective}",
        "sweep.report_interval_epochs=1",
    )
    config, space = made(*words)
    study = optuna_study.rebuild_study([], space, config)
    theirs = make_oracle(config, space, 1, "min" if objective == "tune/nll" else "max")
    chance, drawn = np.random.default_rng(3), iter([])
    theirs._random_values = lambda: dict(next(drawn))
    told: dict[int, float] = {}
    for number in range(45):
        trial, params = optuna_study.ask_trial(study, number, space=space, config=config)
        ours = optuna_study.hyperband_state(study, trial)
        drawn = iter(
            [
                {
                    p.name: encoding.encoded(p.distribution, params[p.name])
                    for p in space.parameters
                    if p.name in params
                }
            ]
        )
        values = theirs.populate_space(str(number))["values"]
        assert (values["tuner/round"], values["tuner/epochs"]) == (ours["round"], ours["epochs"])
        assert values.get("tuner/trial_id") == (
            str(ours["continues"]) if "continues" in ours else None
        )
        told[number] = float(chance.uniform())
        failed = number % 11 == 5
        known = theirs.hyperparameters.copy()
        known.values = values
        other = keras_tuner.engine.trial.Trial(
            known, str(number), "FAILED" if failed else "COMPLETED"
        )
        other.score, theirs.trials[str(number)] = told[number], other
        study.tell(
            trial,
            None if failed else told[number],
            state=optuna.trial.TrialState.FAIL if failed else None,
        )
        if "continues" in ours:
            assert params == study.trials[ours["continues"]].params
    assert (
        len(
            {
                trial.system_attrs[hyperband.HYPERBAND_ATTR]["bracket"]
                for trial in study.get_trials(deepcopy=False)
            }
        )
        > 3
    )


WORDS = [
    "+sweep=smoothing",
    "engine=keras_tuner",
    "oracle=hyperband",
    "sweep.n_trials=9",
    "sweep.report_interval_epochs=1",
]
WORDS += ["tracking.enabled=false", *TINY]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 1000], ids=["from its checkpoint", "from the start"])
def test_a_promoted_trial_ends_as_one_that_was_never_stopped(
    seconds: int, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, f"train.checkpoint_interval_s={seconds}", "study=rounds"]) == 0
    study = project / "mlruns" / "studies" / "rounds"
    trials = fold(story(study)).trials
    promoted = [trial for trial in trials if trial.continues is not None]
    whole, _ = promoted
    assert whole.state == "complete"
    assert [*whole.reports] == [1, 2, 3, 4]
    assert [(trial.state, len(trial.reports)) for trial in trials] == [("pruned", 2)] * 5 + [
        ("complete", 4)
    ] * 4
    reported = [
        event["epochs"][-1]["epoch"]
        for event in story(study)
        if event["event"] == "epochs_reported" and event["trial"] == whole.number
    ]
    assert reported == [3, 4]
    settings = [f"{name}={value}" for name, value in settings_of(study, whole.number).items()]
    assert (
        main(
            [
                "train",
                "study=alone",
                "pruner=none",
                "sweep.report_interval_epochs=1",
                "tracking.enabled=false",
                *TINY,
                *settings,
            ]
        )
        == 0
    )
    (alone,) = fold(story(project / "mlruns" / "studies" / "alone")).trials
    assert alone.value == whole.value


def settings_of(study: Path, number: int) -> dict[str, Any]:
    """What makes a trial's configuration: groups first."""
    settings = next(
        event["settings"]
        for event in story(study)
        if event["event"] == "trial_asked" and event["trial"] == number
    )
    groups = {
        path.removesuffix(".name"): value
        for path, value in settings.items()
        if path.endswith(".name")
    }
    return groups | {path: value for path, value in settings.items() if not path.endswith(".name")}


@pytest.mark.slow
def test_hyperband_killed_at_random_events_and_resumed_equals_never_killed(
    project: Path, fork: Fork, kill_seed: int
) -> None:
    words = [*WORDS, "train.checkpoint_interval_s=0"]
    whole = fork(project, [*words, "study=whole"])
    assert whole.returncode == 0, whole.stderr
    kills, _ = until_it_ends(fork, project, "event", 14, [*words, "study=killed"], kill_seed)
    studies = project / "mlruns" / "studies"
    assert story(studies / "killed") == story(studies / "whole"), (
        f"after kills at (event, share of its line) {kills}"
    )


REFUSED = {
    "sampler=tpe engine=keras_tuner": "sampler= is for engine=optuna",
    "oracle=random": "oracle= is for engine=keras_tuner",
    "engine=keras_tuner sweep.objectives=[tune/nll,time]": "follows one objective",
    "engine=keras_tuner oracle=hyperband pruner=median": "ends trials itself, and pruner=median "
    "would too: pruner=none",
    "engine=keras_tuner oracle=hyperband sweep.on_duplicate=reuse": "takes results of fewer",
    "engine=keras_tuner oracle=hyperband sweep.report_interval_epochs=8": "so two are one: lower "
    "sweep.report_interval_epochs=8",
    "engine=keras_tuner oracle=hyperband oracle.max_epochs=6": "max_epochs=6 is less than the 10 "
    "epochs of a trial",
    "engine=keras_tuner oracle=hyperband sweep.n_trials=5": r"12 of 2 epochs, then 4 of 4 epochs, "
    ".* first whole trial is the 17th",
    "engine=keras_tuner oracle._target_=keras_tuner.oracles.GridSearchOracle": "A grid is "
    "sampler=grid",
    "engine=keras": "must be one of optuna, keras_tuner",
}


@pytest.mark.parametrize(("words", "told"), REFUSED.items())
def test_what_does_not_go_together_is_refused_before_any_work(
    words: str, told: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["+sweep=smoothing", *words.split()]) == 1
    assert re.search(told, capsys.readouterr().err)
    assert not (project / "mlruns").exists()


def test_checkpoints_wait_only_for_those_that_may_go_on(tmp_path: Path) -> None:
    config, _ = made("+sweep=smoothing", "oracle=hyperband")

    def paused(number: int, value: float, **noted: Any) -> history.TrialRecord:
        about = {"bracket": 0, "round": 0, "epochs": 2, "next": 2, **noted}
        return history.TrialRecord(
            number,
            {},
            hyperband_state=about,
            ended=TrialEnded(trial=number, state="pruned", value=value),
        )

    shelf, folder = TrialStore(tmp_path, config, []), tmp_path / "checkpoints"
    folder.mkdir()

    def end(record: history.TrialRecord) -> set[str]:
        (folder / f"{record.number}.npz").touch()
        shelf.on_trial_end(record)
        return {path.stem for path in folder.iterdir()}

    assert end(paused(0, 0.5)) == {"0"}
    assert end(paused(1, 0.4)) == {"0", "1"}
    assert end(paused(2, 0.6)) == {"0", "1"}  # two of the round go on, and it is third
    assert end(paused(3, 0.3)) == {"1", "3"}
    child = paused(4, 0.2, round=1, next=1, epochs=4, continues=3)
    assert shelf.checkpoint_to_resume(child) == folder / "3.npz"
    assert end(child) == {"1", "4"}  # its own takes the place of what it went on from
    assert hyperband.promotable(shelf._told, shelf._rank) == {1, 4}
    assert end(paused(5, 0.9, bracket=1)) == {"1", "4", "5"}  # a worker began the next bracket
    # none of round 0 goes on any more
    assert end(paused(6, 0.1, round=1, next=1, epochs=4, continues=1)) == {"5", "6"}
    lost = history.TrialRecord(
        7,
        {},
        hyperband_state={"bracket": 1, "round": 0, "epochs": 2, "next": 2},
        ended=TrialEnded(trial=0, state="failed", value=None),
    )
    assert end(lost) == {"5", "6"}
    assert end(paused(8, 0.8, bracket=1)) == {"6", "8"}  # one goes on instead of two
