"""A key is added in one place, and whoever compares settings treats it by its role."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from flowersweep.config import schema
from flowersweep.config.compose import compose, config_from_dict
from flowersweep.config.keys import (
    choices_of,
    is_within,
    key_of,
    range_of,
    role_of,
    says,
    settings_with_role,
)
from flowersweep.config.schema import Command, Config, Experiment, Train
from flowersweep.config.setting import BUDGET, COMMAND, LABEL, PLACE, SEARCH, TRAINED, Role, setting
from flowersweep.config.validation import validate
from flowersweep.errors import ConfigError, FlowersweepError
from flowersweep.search.compatibility import compared_settings
from flowersweep.study.events import StudyStarted
from flowersweep.tracking.recorded import RecordedRun
from flowersweep.tracking.throughput import settings_of_one
from flowersweep.training.identity import identity
from flowersweep.workflows.replay import replay

EVERY = [TRAINED, SEARCH, LABEL, PLACE, BUDGET, COMMAND]


@pytest.fixture(params=EVERY, ids=lambda role: role.value)
def role(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Role:
    """Add a key ``train.later`` with this role."""
    namespace = {
        "__annotations__": {"later": "int"},
        "later": setting(1, low=1, high=9, role=request.param),
    }
    later: Any = dataclass(frozen=True)(type("LaterTrain", (Train,), namespace))
    config = type(
        "LaterConfig",
        (Config,),
        {"__annotations__": {"train": later}, "train": setting(later, role=TRAINED)},
    )
    monkeypatch.setattr(schema, "Config", dataclass(frozen=True)(config))
    return request.param


def config(value: int) -> Any:
    return schema.Config(train=schema.Config().train.__class__(later=value))  # type: ignore[call-arg]


def test_a_new_key_is_hashed_if_it_changes_what_is_trained(role: Role) -> None:
    assert (identity(config(1), 1) != identity(config(2), 1)) == (role is TRAINED)


def test_a_new_key_is_compared_on_resume_unless_it_is_free(role: Role) -> None:
    assert ("train.later" in compared_settings(config(1))) == (role in (TRAINED, SEARCH, LABEL))


def test_a_new_key_is_refused_by_replay_if_it_says_what_is_trained_or_searched(
    role: Role, tmp_path: Path
) -> None:
    run = RecordedRun("id", "run", None, {}, {}, {}, {}, {})
    told = (
        "nothing to compare"
        if role in (PLACE, COMMAND)
        else "train.later: a replay trains what the run was"
    )
    with pytest.raises(FlowersweepError, match=told):
        replay(run, config(2), ["train.later=2"], features=lambda *_: None, refused=tmp_path)


def test_a_new_key_is_a_column_of_mlflow_if_it_says_what_is_trained(role: Role) -> None:
    study = StudyStarted(
        study="s",
        experiment="e",
        seed=0,
        config={"train": {"name": "frozen"}},
        overrides=["train.later=2"],
        objective="tune/nll",
        direction="minimize",
        space={},
        settings={},
    )
    assert settings_of_one(study) == {
        "train": "frozen",
        **({"later": "2"} if role in (TRAINED, LABEL) else {}),
    }


def test_a_new_key_is_checked_by_its_range(role: Role) -> None:
    assert range_of("train.later") == (1, 9)
    with pytest.raises(ConfigError, match="later=10: must be between 1 and 9"):
        validate(replace(config(10), verb={}))


def test_every_key_is_of_the_experiment_or_of_the_command_and_composes() -> None:
    names = [{key.name for key in fields(kind)} for kind in (Experiment, Command)]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {key.name for key in fields(Config)}
    composed = compose(["seed=3", "port=6000"])
    assert type(composed.experiment) is Experiment
    assert not {"port", "verb", "dir", "trusted_modules"} & vars(composed.experiment).keys()
    assert Config(port=1).with_experiment(composed.experiment) == replace(
        composed, **vars(Command(port=1))
    )
    assert all(role_of(name) is COMMAND for name in names[1] - {"dir", "tracking", "sync"})
    # no journal holds what a command is told
    assert not settings_with_role(composed.experiment, COMMAND)


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("train.epochs", TRAINED),
        ("loss.gamma", TRAINED),
        ("loss.name", LABEL),
        ("data.dir", PLACE),
        ("data.fetch.images", TRAINED),
        ("data", TRAINED),
        ("data.digest", None),
        ("database", None),
        ("split_seed", None),
        ("executor.name", BUDGET),
        ("run", COMMAND),
        ("runs", None),
    ],
)
def test_roles_are_read_by_whole_names(path: str, role: Role | None) -> None:
    assert role_of(path) is role


def test_ranges_and_choices_stand_at_the_field() -> None:
    assert range_of("loss.gamma") == (0, 20)
    assert range_of("loss.other") is None
    assert choices_of("split") == ("val", "test")
    assert choices_of("train.epochs") == ()


def test_words_are_read_by_whole_keys() -> None:
    assert key_of("++data.dir=/a=b") == "data.dir"
    assert key_of("~augment") == "augment"
    assert says(["+data.fetch.images=3"], "data")
    assert not says(["database=3"], "data")
    assert is_within("data", "data")


@pytest.mark.parametrize("where", ["data.classes", "augment.name"])
def test_a_written_configuration_reads_nothing_of_this_machine(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that somebody else logged is configuration from outside."""
    monkeypatch.setenv("SECRET_TOKEN", "swordfish")
    written = json.loads(json.dumps(asdict(compose([]).experiment)))
    assert config_from_dict(written).experiment == compose([]).experiment
    group, key = where.split(".")
    written[group][key] = "${oc.env:SECRET_TOKEN}"
    with pytest.raises(ConfigError, match=rf"{where} has an interpolation") as refused:
        config_from_dict(written)
    assert "swordfish" not in str(refused.value)
