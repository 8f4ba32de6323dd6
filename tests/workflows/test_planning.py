"""A plan says what the sweep then does: its trials, its programs, its minutes and its bytes; and
does nothing of it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.config.compose import compose, parse
from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Budget, Config
from flowersweep.runtime import compiles
from flowersweep.space.space import build_space
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.workflows.planning import plan
from flowersweep.workflows.planning.forecast import Forecast, make_forecast
from flowersweep.workflows.planning.profiling import TrialProfile
from tests.conftest import TINY
from tests.events import lines
from tests.tiny import tiny

WORDS = ["+sweep=smoothing", "sweep.n_trials=6", "sampler=random", "tracking.enabled=false", *TINY]
COSTS = TrialProfile(
    compiling=30.0,
    head=2.0,
    main=10.0,
    finish=5.0,
    image=0.01,
    logits=1000,
    weights=5000,
    checkpoint=9000,
)


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["frozen", "finetune"])
def test_a_plan_says_everything_and_leaves_nothing_but_what_it_timed(
    stages: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *WORDS, f"train={stages}", "train.batch_per_replica=8"]) == 0
    said = capsys.readouterr().out
    assert (
        "label_smoothing: loss.label_smoothing = 0 to 0.3, if loss is smoothed_cross_entropy"
        in said
    )
    assert re.search(r"learning_rate: train.learning_rate = \S+ to \S+, logarithmic", said)
    assert [
        line.partition(":")[0].strip() for line in said.splitlines() if re.match(r"  \d: ", line)
    ] == ["0", "1", "2", "3", "4"]
    assert "compile groups: 1, of 6 sampled trials" in said
    views = {"frozen": 140, "finetune": 70}[stages]  # with and without mirror images
    assert re.search(rf"features of {views} views of images: \d+ s, once", said)
    assert re.search(r"6 trials: .* to go \(the pruner saves at most", said)
    assert re.search(r"disk: .* kB for the study, .* at the least; .* for features to come", said)
    assert not list(project.rglob("journal.jsonl"))
    assert not list(project.rglob("features/*/*.npy"))


@pytest.mark.slow
def test_the_samples_are_the_trials_that_the_sweep_begins_with(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *WORDS]) == 0
    said = capsys.readouterr().out
    assert main([*WORDS, "sweep.n_trials=2"]) == 0
    events = lines(project / "mlruns" / "studies" / "smoothing" / "journal.jsonl")
    asked = [event["settings"] for event in events if event["event"] == "trial_asked"]
    for number, settings in enumerate(asked):
        shown = ", ".join(
            f"{path}={value:.4g}" if isinstance(value, float) else f"{path}={value}"
            for path, value in settings.items()
        )
        assert f"  {number}: {shown}\n" in said
    assert main(["plan", *WORDS, "sweep.workers=2"]) == 0
    said = capsys.readouterr().out
    assert "6 trials: 2 of them ended, in " in said
    assert (
        "sweep.workers=2 share the cores of this machine: the minutes are those of one trial "
        "after the other"
    ) in said


GROUPS = {
    "numbers only": ([], 1),
    "optimizers": (["+sweep.space.optimizer={path: optimizer, values: 'choice(adam, sgd)'}"], 2),
    "optimizers and schedules": (
        [
            "+sweep.space.optimizer={path: optimizer, values: 'choice(adam, sgd)'}",
            (
                "+sweep.space.schedule={path: schedule, values: 'choice(exponential, cosine, "
                "constant)'}"
            ),
            "~sweep.space.warmup",
        ],
        6,
    ),
    "a number of the optimizer": (
        ["+sweep.space.beta={path: optimizer.beta_1, values: 'interval(0.8, 0.9)'}"],
        6,
    ),
}


@pytest.mark.parametrize(("words", "expected"), GROUPS.values(), ids=GROUPS.keys())
def test_the_compile_groups_of_a_space_are_counted(
    words: list[str], expected: int, project: Path, context: TrainingContext
) -> None:
    line = (*WORDS, *words)
    config = compose(line)
    groups = plan._groups(config, build_space(config, line, parse(line)), context)
    assert len(groups) == expected
    if "optimizers" in " ".join(groups):
        assert {"1: loss=smoothed_cross_entropy, optimizer=adam", "2: optimizer=sgd"} & set(groups)


def test_trials_of_one_group_compile_once_and_those_of_another_again(
    context: TrainingContext,
) -> None:
    def run(config: Config) -> int:
        before = compiles()
        trial.finish(config, trial.advance(config, Checkpoint(), 1, context)[0], context)
        return compiles() - before

    base = tiny(seed=3)
    run(base)
    for settings in (
        {"train.learning_rate": 0.1, "loss.gamma": 2.0},
        {"train.gradient_clip_norm": 1.0},
        {"train.batch_per_replica": 10},
    ):
        other = with_settings(base, settings)
        assert (context.compile_group_keys(other) == context.compile_group_keys(base)) == (
            run(other) == 0
        ), settings


def planned(*words: str) -> Forecast:
    config = compose(["+sweep=smoothing", "sweep.n_trials=11", "train.epochs=10", *words])
    return make_forecast(config, COSTS, 11, groups=2, missing=3000)


def test_minutes_follow_from_what_was_timed() -> None:
    certain, whole = 2 * 30 + 3000 * 0.01, 10 * 10 + 5
    assert (
        planned("pruner=none").most == planned("pruner=none").least == (certain + 11 * whole) / 60
    )
    # at 2 epochs at the soonest, and never the first
    halving = planned("pruner=successive_halving")
    assert (halving.most, halving.least) == (
        (certain + 11 * whole) / 60,
        (certain + whole + 10 * 20) / 60,
    )
    # looks at 4 epochs
    median = planned("pruner=median", "pruner.n_startup_trials=5", "pruner.n_warmup_steps=3")
    assert median.least == (certain + 5 * whole + 6 * 40) / 60
    finetune = planned("pruner=none", "train=finetune", "train.epochs=10", "train.head_epochs=4")
    assert finetune.most == (certain + 11 * (whole + 4 * 2)) / 60


def test_workers_that_share_no_cores_share_the_minutes() -> None:
    certain, whole = 2 * 30 + 3000 * 0.01, 10 * 10 + 5
    cluster = planned("pruner=none", "executor=ray", "sweep.workers=4")
    assert (cluster.most, cluster.least) == (
        (certain + 3 * whole) / 60,
        (certain + 11 / 4 * whole) / 60,
    )
    assert planned("pruner=none", "executor=ray", "sweep.workers=99").most == (certain + whole) / 60
    # on this machine's cores
    assert planned("pruner=none", "sweep.workers=4") == planned("pruner=none")


def test_bytes_follow_from_what_is_kept() -> None:
    few, many = (
        planned("sweep.save_predictions_of_best=3"),
        planned("sweep.save_predictions_of_best=20"),
    )
    assert many.most_bytes - few.most_bytes == (11 - 3) * COSTS.logits
    assert few.least_bytes == many.least_bytes
    assert few.least_bytes > 2 * (COSTS.weights + COSTS.checkpoint)


def test_a_budget_is_refused_only_if_it_cannot_be_enough() -> None:
    forecast, config = (
        Forecast(least=10, most=30, least_bytes=100, most_bytes=900),
        compose(["+sweep=quick"]),
    )

    def refusal(used: float = 0.0, **given: float) -> str | None:
        return forecast.refusal(
            replace(config, sweep=replace(config.sweep, budget=Budget(**given))), used
        )  # type: ignore[arg-type]

    assert refusal() is None
    assert refusal(minutes=20, bytes=200) is None
    assert "sweep.budget.minutes=9, and the forecast is 10 min to 30 min" in str(refusal(minutes=9))
    assert refusal(used=9, minutes=20) is None
    assert "sweep.budget.minutes=20, and the forecast is 21 min to 41 min" in str(
        refusal(used=11, minutes=20)
    )
    assert "sweep.budget.bytes=99, and the study needs 100 at the least" in str(refusal(bytes=99))


@pytest.mark.slow
def test_what_is_over_budget_is_refused_by_the_plan_and_then_by_the_sweep(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, words = "sweep.budget.minutes=1e-5", [*WORDS, "sweep.n_trials=2"]
    assert main(["plan", *words, short]) == 1
    assert "over budget: sweep.budget.minutes=1e-05, and the forecast is" in capsys.readouterr().out
    assert main([*words, short]) == 1
    assert "over budget: sweep.budget.minutes=1e-05" in capsys.readouterr().err
    assert main([*words, "sweep.budget.bytes=1000"]) == 1
    assert "over budget: sweep.budget.bytes=1000" in capsys.readouterr().err
    assert not list(project.rglob("journal.jsonl"))
    assert main([*words, "sweep.budget.minutes=60"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("libtpu") is None, reason="needs libtpu, the compiler for TPU")
def test_a_plan_for_a_slice_says_whether_it_fits(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *WORDS, "topology=v5e:1x1"]) == 0
    said = capsys.readouterr().out
    assert "6 trials: " in said
    assert "it fits" in said
