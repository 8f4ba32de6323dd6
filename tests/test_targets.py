"""A configuration may come from a stranger: whatever it names, nothing that its slot does not need
is imported or called.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import pytest

from flowersweep import provenance
from flowersweep.__main__ import main
from flowersweep.config.compose import compose, compose_unchecked
from flowersweep.config.paths import flatten
from flowersweep.config.registry import REGISTRY, slot_of
from flowersweep.config.schema import Tracking
from flowersweep.config.targets import arguments, resolve
from flowersweep.errors import ConfigError
from flowersweep.tracking.recorded import RecordedRun
from flowersweep.tracking.store import client
from flowersweep.workflows.promotion.single import run_promotion
from flowersweep.workflows.replay import replay
from tests.conftest import TINY, tiny_model
from tests.events import lines, rewrite

ROOT = Path(__file__).parents[1]
OURS = re.compile(
    r"flowersweep\.("
    + "|".join(sorted({path.stem for path in (ROOT / "flowersweep").iterdir()}))
    + r")\.\w"
)
MINE = """
import os
from functools import partial
from os import system
from keras.models import load_model

def touch(**path):
    raise SystemExit("called")

def loss(logits, targets, *, scale):
    return scale

halved = partial(loss, scale=0.5)

class Sampler:
    def __init__(self, seed):
        raise SystemExit("called")
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that an attack leaves if it gets through."""
    return tmp_path / "attacked"


@pytest.fixture
def model(tmp_path: Path, marker: Path) -> Path:
    """A file with a network that makes the marker when it is opened."""
    images = keras.Input((2,))
    attack = eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")
    keras.Model(images, keras.layers.Lambda(attack)(images)).save(tmp_path / "model.keras")
    marker.unlink(missing_ok=True)
    return tmp_path / "model.keras"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine_own.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mine_own", None)


ATTACKS: list[tuple[str, str, dict[str, Any]]] = [
    ("optimizer", "keras.saving.load_model", {"filepath": "MODEL", "safe_mode": False}),
    ("loss", "keras.models.load_model", {"filepath": "MODEL", "safe_mode": False}),
    ("schedule", "keras.saving.load_model", {"filepath": "MODEL", "safe_mode": False}),
    ("augment", "keras.models.load_model", {"filepath": "MODEL", "safe_mode": False}),
    ("backbone", "keras.models.load_model", {"filepath": "MODEL", "safe_mode": False}),
    (
        "backbone",
        "keras.src.saving.saving_api.load_model",
        {"filepath": "MODEL", "safe_mode": False},
    ),
    ("backbone", "keras.layers.Lambda", {"function": "print"}),
    ("backbone", "keras.applications.resnet.decode_predictions", {"preds": []}),
    ("preprocess", "keras.saving.load_model", {"filepath": "MODEL", "safe_mode": False}),
    ("preprocess", "keras.applications.ResNet50", {}),
    ("data.fetch", "keras.utils.get_file", {"fname": "MARKER", "origin": "file:MODEL"}),
    ("sampler", "optuna.load_study", {"study_name": "x", "storage": "sqlite:///MARKER"}),
    ("sampler", "optuna.create_study", {"storage": "sqlite:///MARKER"}),
    ("sampler", "optuna.samplers._base.os.system", {"command": "touch MARKER"}),
    ("sampler", "optuna.samplers.CmaEsSampler", {}),
    ("pruner", "optuna.create_study", {"storage": "sqlite:///MARKER"}),
    ("pruner", "optuna.samplers.RandomSampler", {}),
    ("oracle", "keras_tuner.RandomSearch", {"hypermodel": "x", "objective": "y"}),
    ("oracle", "keras_tuner.engine.tuner.os.system", {"command": "touch MARKER"}),
    ("optimizer", "keras.src.utils.file_utils.os.system", {"command": "touch MARKER"}),
    ("optimizer", "keras.src.utils.io_utils.subprocess", {}),
    ("optimizer", "keras.optimizers.Adam.from_config", {"config": {}}),
    ("optimizer", "keras.optimizers.deserialize", {"config": {}}),
    ("optimizer", "keras.optimizers.get", {"identifier": "adam"}),
    ("optimizer", "keras.optimizers.schedules.ExponentialDecay", {}),
    ("optimizer", "keras.layers.Dense", {"units": 1}),
    ("verb", "os.system", {"command": "touch MARKER"}),
    ("executor", "subprocess.Popen", {"args": ["touch", "MARKER"]}),
    ("executor", "keras.models.load_model", {"filepath": "MODEL", "safe_mode": False}),
    ("loss", "mine_own.touch", {}),  # nobody trusts it
]


@pytest.mark.parametrize(
    ("slot", "target", "given"), ATTACKS, ids=[f"{slot}={target}" for slot, target, _ in ATTACKS]
)
def test_what_a_slot_does_not_need_is_refused_before_it_is_called(
    slot: str, target: str, given: dict[str, Any], model: Path, marker: Path, mine: None
) -> None:
    words = {"MODEL": str(model), "MARKER": str(marker)}
    spec = json.loads(
        re.sub(
            "MODEL|MARKER",
            lambda word: words[word[0]],
            json.dumps({"_target_": target, "name": "x", **given}),
        )
    )
    with pytest.raises(ConfigError, match=re.escape(target)):
        resolve(spec, slot)(**arguments(spec))
    assert not marker.exists()
    assert "mine_own" not in sys.modules


def test_the_attack_that_is_refused_is_one(model: Path, marker: Path) -> None:
    keras.saving.load_model(model, safe_mode=False)
    assert marker.exists()


@pytest.mark.parametrize(
    ("slot", "target", "told"),
    [
        ("loss", "mine_own.system", "mine_own only imports it"),
        ("backbone", "mine_own.load_model", "mine_own only imports it"),
        ("verb", "mine_own.os.system", "cannot be imported"),
        ("sampler", "mine_own.Sampler", "subclass of optuna.samplers.BaseSampler"),
        ("loss", "mine_own.nothing", "cannot be imported"),
        # also for somebody who trusts keras
        ("loss", "keras.models.load_model", "this slot takes"),
    ],
)
def test_of_a_trusted_module_only_what_it_defines_is_called(
    slot: str, target: str, told: str, mine: None
) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve({"_target_": target}, slot, ["mine_own", "keras"])


def test_a_trusted_callable_is_taken_if_it_takes_its_arguments(mine: None) -> None:
    assert (
        resolve({"_target_": "mine_own.loss", "name": "own", "scale": 1.0}, "loss", ["mine_own"])(
            0, 0, scale=1.0
        )
        == 1.0
    )
    assert resolve({"_target_": "mine_own.halved"}, "loss", ["mine_own"])(0, 0) == 0.5
    with pytest.raises(ConfigError, match="'scael'"):
        resolve({"_target_": "mine_own.loss", "scael": 1.0}, "loss", ["mine_own"])


SERIALIZED = {"module": "keras.layers", "class_name": "Lambda", "config": {}}


@pytest.mark.parametrize(
    ("slot", "spec"),
    [
        ("optimizer", {"_target_": "keras.optimizers.Adam", "learning_rate": SERIALIZED}),
        (
            "optimizer",
            {
                "_target_": "keras.optimizers.Adam",
                "learning_rate": {"_target_": "os.system", "command": "x"},
            },
        ),
        ("optimizer", {"_target_": "keras.optimizers.Adam", "learning_rate": lambda step: 0.1}),
        (
            "backbone",
            {
                "_target_": "keras.applications.ResNet50",
                "classifier_activation": [{"deep": SERIALIZED}],
            },
        ),
        ("sampler", {"_target_": "optuna.samplers.TPESampler", "gamma": {"_target_": "os.system"}}),
    ],
)
def test_an_argument_is_plain_data(slot: str, spec: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"plain data|must be a number"):
        resolve(spec, slot)


def test_a_path_into_the_public_module_means_the_registered_name() -> None:
    path = "flowersweep.testing.tiny_backbone"
    config = compose([f"model.backbone._target_={path}"])
    assert config.model.backbone["_target_"] == "tiny_backbone"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["loss._target_=focal_cross_entropie"], 'Did you mean "focal_cross_entropy"?'),
        (
            ["schedule._target_=focal_cross_entropy"],
            "Names of this slot: constant, cosine, exponential, one_cycle",
        ),
        (["optimizer._target_=adam"], "Or a path such as keras.optimizers.Adam"),
        (
            ["loss._target_=flowersweep.training.losses.focal_cross_entropy"],
            "Use `loss._target_=focal_cross_entropy`.",
        ),
        (
            ["+optimizer.learning_rate._target_=keras.optimizers.schedules.CosineDecay"],
            "an argument is plain data",
        ),
        (["+data.fetch.inner={_target_: kaggle}"], "an argument is plain data"),
    ],
)
def test_a_name_that_a_slot_does_not_have_is_said_when_the_words_are_composed(
    words: list[str], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        compose(words)


@pytest.mark.parametrize(
    ("slot", "name"), [(slot, name) for slot, names in REGISTRY.items() for name in names]
)
def test_every_registered_name_is_there(slot: str, name: str) -> None:
    assert resolve({"_target_": name}, slot)


def test_a_slot_is_told_by_its_path() -> None:
    slots = {
        "loss._target_": "loss",
        "data.fetch._target_": "data.fetch",
        "model.backbone._target_": "backbone",
        "model.members.lite0.preprocess._target_": "preprocess",
        "model.members.backbone._target_": None,
        "loss.inner._target_": None,
        "data._target_": None,
    }
    assert {path: slot_of(path) for path in slots} == slots


def test_no_module_path_of_ours_is_in_a_file_that_names_things() -> None:
    for path in [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "sweeps").glob("*.yaml")]:
        assert not OURS.search(path.read_text()), path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with a study of one trial, here and in MLflow."""
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        compose_unchecked.cache_clear()
        assert main(["+sweep=quick", *TINY, "sweep.n_trials=1", "train.epochs=1"]) == 0
        yield folder
    compose_unchecked.cache_clear()


def journal(folder: Path) -> Path:
    return folder / "mlruns" / "studies" / "quick" / "journal.jsonl"


@pytest.mark.slow
def test_no_module_path_of_ours_is_in_a_journal_or_in_mlflow(study: Path) -> None:
    assert not OURS.search(journal(study).read_text())
    store = client(Tracking(), study / "mlruns")
    runs = store.search_runs([each.experiment_id for each in store.search_experiments()])
    texts = [value for run in runs for value in run.data.params.values()]
    texts += [path.read_text() for path in (study / "mlruns" / "artifacts").rglob("config.yaml")]
    assert any("focal_cross_entropy" in text for text in texts)
    assert not any(OURS.search(text) for text in texts)


STRANGERS = [
    {"optimizer": {"_target_": "keras.saving.load_model", "filepath": "MODEL", "safe_mode": False}},
    {
        "model.backbone": {
            "_target_": "keras.models.load_model",
            "filepath": "MODEL",
            "safe_mode": False,
        }
    },
    {"data.fetch": {"_target_": "keras.utils.get_file", "fname": "MARKER", "origin": "file:MODEL"}},
    {"optimizer": {"_target_": "evil.Adam"}, "trusted_modules": ["evil"]},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", STRANGERS, ids=lambda changes: next(iter(changes.values()))["_target_"]
)
def test_a_run_of_somebody_else_is_not_replayed(
    changes: dict[str, Any], study: Path, model: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil(study, marker, monkeypatch)
    config = compose(["replay", "force=true", *TINY][1:])
    trained = with_changes(asdict(config), changes, model, marker)
    digest = json.loads(journal(study).read_text().partition("\n")[0])["provenance"]["data"][
        "digest"
    ]
    kept = {"data": {"digest": digest}, "versions": provenance.versions()}
    found = RecordedRun(
        "r", "theirs", None, {"flowersweep.state": "complete"}, {}, {}, trained, kept
    )
    with pytest.raises(ConfigError, match=changes[next(iter(changes))]["_target_"]):
        replay(found, config, [], features=lambda *_: None, refused=study / "refused")
    assert not marker.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", STRANGERS, ids=lambda changes: next(iter(changes.values()))["_target_"]
)
def test_a_study_of_somebody_else_is_not_promoted(
    changes: dict[str, Any],
    study: Path,
    model: Path,
    marker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evil(study, marker, monkeypatch)
    events = lines(journal(study))
    words = [*events[0]["overrides"]]
    for path, value in with_changes(changes, {}, model, marker).items():
        words += (
            [f"++{path}.{key}={hydra(inner)}" for key, inner in value.items()]
            if path == "optimizer"
            else [f"++{path}={hydra(value)}"]
        )
    copy = tmp_path / "mlruns" / "studies" / "quick"
    copy.mkdir(parents=True)
    begun = {
        **events[0],
        "overrides": words,
        "settings": {**settings(words), "replicas": 1, "data.digest": "x"},
    }
    rewrite(copy / "journal.jsonl", [begun, *events[1:]])
    config = replace(compose(["verb=promote"]), study="quick", dir=str(tmp_path / "mlruns"))
    with pytest.raises(ConfigError, match=changes[next(iter(changes))]["_target_"]):
        run_promotion(config, ["verb=promote", "study=quick", f"dir={tmp_path}/mlruns"], None)
    assert not marker.exists()


def evil(folder: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module beside the study that makes the marker when it is imported."""
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nfrom keras.optimizers "
        "import Adam\n"
    )
    monkeypatch.syspath_prepend(folder)


def with_changes(
    content: dict[str, Any], changes: dict[str, Any], model: Path, marker: Path
) -> dict[str, Any]:
    """Put changes into a configuration, and the files of the attack for their names."""
    for path, value in changes.items():
        *parents, key = path.split(".")
        inner = content
        for parent in parents:
            inner = inner[parent]
        inner[key] = value
    words = {"MODEL": str(model), "MARKER": str(marker)}
    filled: dict[str, Any] = json.loads(
        re.sub("MODEL|MARKER", lambda word: words[word[0]], json.dumps(content))
    )
    return filled


def settings(words: list[str]) -> dict[str, Any]:
    leaves: dict[str, Any] = json.loads(json.dumps(dict(flatten(compose_unchecked(tuple(words))))))
    return leaves


def hydra(value: Any) -> str:
    """Write a value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {hydra(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value).replace('"', "'") if isinstance(value, str) else json.dumps(value)
