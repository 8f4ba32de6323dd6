"""What a YAML file may not say for the command, since it may be somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep.config.command_only import without_variables
from flowersweep.config.compose import compose, compose_unchecked
from flowersweep.config.images import recorded_or_named, require_own_images
from flowersweep.config.schema import Data
from flowersweep.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of somebody else's, that one stands in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "conf" / "verb").mkdir(parents=True)
    (tmp_path / "conf" / "executor").mkdir()
    compose_unchecked.cache_clear()
    return tmp_path


def sweep(folder: Path, text: str) -> None:
    (folder / "sweeps" / "theirs.yaml").write_text(
        f"{text}\nsweep:\n  space:\n    rate: {{path: train.learning_rate, values: 'choice(1, 2)'}}"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trusted_modules: [os]", r"trusted_modules=\[os\]"),
        ("dir: /elsewhere", "dir=/elsewhere"),
        ("output: /elsewhere", "output=/elsewhere"),
        ("tracking: {uri: 'http://elsewhere'}", "tracking.uri=http://elsewhere"),
        ("force: true", "force=true"),
        ("sync: {to: 's3://elsewhere/x'}", "sync.to=s3://elsewhere/x"),
        ("executor: {address: 'ray://elsewhere'}", "executor.address=ray://elsewhere"),
        ("data: {dir: 'gs://elsewhere/x'}", "data.dir=gs://elsewhere/x"),
        ("data: {extra: ['gs://elsewhere/x']}", r"data.extra=\[gs://elsewhere/x\]"),
        ("verb: {_target_: promote}", "a file makes the verb search call 'promote'"),
        ("optimizer: {name: '${oc.env:HOME}'}", "HOME of the environment"),
        ("optimizer: {name: '${oc.${loss.name}:HOME}'}\nloss: {name: env}", "HOME of the env"),
    ],
)
def test_a_sweep_file_may_not_say_it(folder: Path, text: str, told: str) -> None:
    sweep(folder, text)
    with pytest.raises(ConfigError, match=told):
        compose(["+sweep=theirs", "executor=ray"])


def test_the_command_may_say_it_whatever_the_file_says(folder: Path) -> None:
    sweep(folder, "trusted_modules: [os]")
    assert compose(["+sweep=theirs", "trusted_modules=[mine]"]).trusted_modules == ["mine"]


@pytest.mark.parametrize("text", ["_target_: promote", "_target_: os.system"])
def test_a_verb_of_ours_is_not_replaced(folder: Path, text: str) -> None:
    (folder / "conf" / "verb" / "report.yaml").write_text(f"name: report\n{text}\n")
    with pytest.raises(ConfigError, match="makes the verb report call"):
        compose(["verb=report"])


def test_words_about_a_sweep_choose_none(folder: Path) -> None:
    assert compose(["sweep.n_trials=3"]).verb["_target_"] == "train"


def test_an_option_of_their_own_names_no_cluster(folder: Path) -> None:
    (folder / "conf" / "executor" / "ray.yaml").write_text(
        "_target_: ray\nname: ray\naddress: ray://elsewhere:1\nruntime_env: null\n"
    )
    with pytest.raises(ConfigError, match=r"executor\.address=ray://elsewhere:1"):
        compose(["executor=ray"])
    assert compose(["executor=ray", "executor.address=auto"]).executor["address"] == "auto"


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch ran]", "!evil x"])
def test_a_tag_of_yaml_makes_no_object(folder: Path, tag: str) -> None:
    sweep(folder, f"recipe: {tag}")
    with pytest.raises(ConfigError, match="cannot be read"):
        compose(["+sweep=theirs"])
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        Data(name="x", dir="gs://elsewhere/x"),
        Data(name="x", fetch={"_target_": "kaggle", "competition": "elsewhere"}),
        Data(name="../x y=z", fetch={"_target_": "kaggle"}),
    ],
)
def test_recorded_images_are_not_fetched_from_elsewhere(folder: Path, data: Data) -> None:
    with pytest.raises(ConfigError, match=r"data\.dir="):
        require_own_images(data)


def test_recorded_extra_images_at_an_address_are_for_the_command_to_name(folder: Path) -> None:
    recorded = Data(name="x", dir="here", extra=["here", "gs://elsewhere/x"])
    with pytest.raises(ConfigError, match=r"data\.extra=\[here,gs://elsewhere/x\]"):
        require_own_images(recorded)
    words = ["data.extra=[gs://mine/x]"]
    named = recorded_or_named(words, compose(words).data, recorded)
    assert (named.dir, named.extra) == ("here", ["gs://mine/x"])


def test_recorded_images_of_an_option_here_are_taken(folder: Path) -> None:
    require_own_images(compose(["data=kaggle"]).data)
    require_own_images(Data(name="x", fetch={"_target_": "synthetic", "classes": 3}))


def test_the_value_of_a_variable_is_used_and_not_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "hunter2-hunter2")
    monkeypatch.setenv("IMAGES", str(folder))
    words = ['tracking.uri="postgresql://me:${oc.env:STORE_PASSWORD}@h/d"', "a=${oc.env:IMAGES}"]
    assert compose(words[:1]).tracking.uri == "postgresql://me:hunter2-hunter2@h/d"
    content = {"token": "hunter2-hunter2", "list": ["x hunter2-hunter2", 1], "dir": str(folder)}
    assert without_variables(content, words, "***") == {
        "token": "***",
        "list": ["x ***", 1],
        "dir": str(folder),
    }
