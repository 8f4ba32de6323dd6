"""Every mistake gets one message that names what exists and what to do, before any work, with exit
code 1 and no traceback.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowersweep.__main__ import main, overrides
from tests.conftest import TINY, Command, environment

MISTAKES = {
    "unknown key": (
        ["train.epocs=3"],
        ["unknown key 'train.epocs'", 'Did you mean "train.epochs"?'],
    ),
    "unknown key to add": (["+colour=red"], ["unknown key 'colour'"]),
    "unknown sweep": (
        ["+sweep=smothing"],
        ["no sweep 'smothing'", "quick", 'Did you mean "smoothing"?'],
    ),
    "unknown verb": (["promot"], ["no verb 'promot'", 'Did you mean "promote"?']),
    "unknown option of a group": (
        ["loss=focl"],
        ["no loss 'focl'", "smoothed_cross_entropy", 'Did you mean "focal"?'],
    ),
    "unknown hyperparameter of a loss": (
        ["loss.gama=2"],
        ["unknown key 'loss.gama'", 'Did you mean "loss.gamma"?'],
    ),
    "wrong type": (["train.epochs=many"], ["'many'", "train.epochs", "Integer"]),
    "wrong type of a hyperparameter": (["loss.gamma=high"], ["loss.gamma", "expected a number"]),
    "missing folder": (["data=tfrecords", "data.dir=nowhere"], ["nowhere"]),
    "no folder": (["data=tfrecords"], ["data.dir"]),
    "negative trials": (["+sweep=quick", "sweep.n_trials=-3"], ["sweep.n_trials=-3", "at least 1"]),
    "two mistakes at once": (
        ["train.epochs=0", "loss.label_smoothing=2"],
        ["train.epochs=0", "loss.label_smoothing=2"],
    ),
    "held-out objective": (
        ["+sweep=quick", "sweep.objective=holdout/macro_f1"],
        ["sweep.objective=holdout/macro_f1", "tune/macro_f1"],
    ),
    "several values": (["train.epochs=1,2"], ["several values", "sweep.space"]),
    "broken word": (["train.epochs=[1"], ["key=value"]),
    "search without a sweep": (["search"], ["+sweep=NAME", "smoothing"]),
    "untrusted target": (["loss._target_=os.system"], ["os.system", "trusted_modules"]),
    "space with an unknown path": (
        ["+sweep=quick", "sweep.space.learning_rate.path=train.rate"],
        ["train.rate", "train.learning_rate"],
    ),
    "space outside the grammar": (
        ["+sweep=quick", "sweep.space.learning_rate.values=low"],
        ["sweep.space.learning_rate", "interval(low, high)"],
    ),
    "swept option that does not exist": (
        ["+sweep=smoothing", "sweep.space.loss.values='choice(smoothed_cross_entropy, focl)'"],
        ["no loss 'focl'", 'Did you mean "focal"?'],
    ),
    "swept range that goes too far": (
        ["+sweep=smoothing", "sweep.space.warmup.values='interval(0, 2)'"],
        ["sweep.space.warmup", "between 0 and 1"],
    ),
    "swept value of a wrong type": (
        ["+sweep=quick", "+sweep.space.length={path: train.epochs, values: 'interval(1.0, 5.5)'}"],
        ["sweep.space.length", "train.epochs", "Integer"],
    ),
    "fewer images than parts of a batch": (
        [
            "train.batch_per_replica=100",
            "train.gradient_accumulation_steps=50",
            "data.folds=1",
            (
                "data.fetch={_target_: synthetic, classes: 3, train: 4, val: 4, test: 1, "
                "image_size: 32}"
            ),
        ],
        ["12 training images", "train.gradient_accumulation_steps=50"],
    ),
    "study that is a path": (["+sweep=quick", "study=../x"], ["study='../x'", "letters"]),
    "output in no folder": (["predict", "output=nowhere/x.csv"], ["output=nowhere/x.csv"]),
    "folder that cannot be made": (
        ["+sweep=quick", "dir=/proc/nothing"],
        ["/proc/nothing", "dir=PATH"],
    ),
    "option": (["--verbos"], ["no option '--verbos'", "--help, --version", "train.epochs=3"]),
    "study as a bare word": (["status", "quick"], ["+sweep=quick", "study=quick"]),
    "verb behind": (["study=quick", "status"], ["the verb 'status' must be the first word"]),
    "key without a value": (["train.epochs"], ["train.epochs=VALUE"]),
    "value without a key": (["=3"], ["'=3' names no key"]),
    "empty word": (["status", ""], ["a word is empty"]),
    "sweep without a plus sign": (["sweep=quick"], ["+sweep=quick"]),
    "folder that is a file": (["status", "dir=/etc/passwd"], ["/etc/passwd is a file"]),
    "output that cannot be made": (
        ["predict", "output=/proc/x"],
        ["output=/proc/x", "output=PATH"],
    ),
    "no studies to compare": (["report", "studies="], ["study=NAME"]),
    "promote without a study": (["promote"], ["study=NAME"]),
    "promote into a name that MLflow refuses": (
        ["promote", "study=quick", "tracking.registered_model=team/flowers"],
        ["tracking.registered_model='team/flowers'", "without / and :"],
    ),
    "promote an unknown study": (["promote", "study=smothing"], ["smothing"]),
}


@pytest.mark.parametrize(("words", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_clear_message(
    words: list[str], told: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    message = capsys.readouterr().err
    assert all(part in message for part in told), message
    assert "Traceback" not in message
    assert len(message) < 1500


def test_the_first_bare_word_is_the_verb() -> None:
    assert overrides(["plan", "+sweep=quick"]) == ["+sweep=quick", "verb=plan"]
    assert overrides(["+sweep=quick"]) == ["+sweep=quick"]


def test_help_lists_verbs_groups_and_sweeps(command: Command) -> None:
    run = command("--help")
    assert run.returncode == 0
    assert all(
        word in run.stdout
        for word in ("promote", "+sweep=smoothing: How soft", "densenet201", "kaggle")
    )


def test_the_door_opens_without_heavy_imports(project: Path) -> None:
    code = "import sys; from flowersweep.cli.help import text; text(); print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert not {"keras", "jax", "tensorflow", "mlflow", "optuna"} & set(run.stdout.split())


def test_a_mistake_leaves_nothing_behind(project: Path) -> None:
    assert main(["+sweep=quick", "data=tfrecords", "data.dir=nowhere"]) == 1
    assert not list(project.rglob("journal.jsonl"))
    assert not list(project.rglob("mlflow.db"))


def test_a_sweep_file_that_cannot_be_read_breaks_only_itself(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "sweeps").mkdir()
    (project / "sweeps" / "torn.yaml").write_text("sweep: {space: [")
    assert main(["config", "+sweep=quick"]) == 0
    assert main(["config", "+sweep=torn"]) == 1
    assert "torn.yaml" in capsys.readouterr().err


def test_what_is_wrong_with_the_weights_is_said_before_a_study_begins(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["+sweep=quick", "model.weights=nowhere.h5", *TINY]
    assert main(words) == 1
    assert "nowhere.h5" in capsys.readouterr().err
    assert not list(project.rglob("journal.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        (
            "sys.platform = 'win32'; sys.modules['fcntl'] = None",
            "flowersweep needs Linux or macOS; on Windows use WSL",
        ),
        ("vars(os).pop('sched_getaffinity', None)", "study quick"),
    ],
    ids=["Windows", "no sched_getaffinity, as on macOS"],
)
def test_it_runs_on_macos_and_says_that_it_needs_wsl_on_windows(
    lacks: str, told: str, project: Path
) -> None:
    words = ["plan", "+sweep=quick", "sweep.n_trials=1", *TINY]
    script = (
        f"import jax, os, sys; {lacks}; from flowersweep.__main__ import main; "
        f"sys.exit(main({words!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert told in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == (1 if "WSL" in told else 0), run.stderr
