"""Folders ``conf`` and ``sweeps`` that somebody else's tools wrote: a sentence names the file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flowersweep.cli.help import text
from flowersweep.config.compose import compose, compose_unchecked
from flowersweep.config.files import frozen_files, option_names
from flowersweep.errors import ConfigError

APPLE = b"\x00\x05\x16\x07\xff"  # how macOS begins the files that it writes beside others


@pytest.fixture(autouse=True)
def folders(project: Path) -> Path:
    (project / "sweeps").mkdir()
    compose_unchecked.cache_clear()
    return project


def refused(*words: str) -> str:
    with pytest.raises(ConfigError) as error:
        compose(words)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_configuration_of_another_hydra_project_takes_no_place_of_ours(folders: Path) -> None:
    (folders / "conf" / "config.yaml").write_text("defaults: [{db: mysql}, _self_]\nlr: 0.1\n")
    (folders / "conf" / "schema.yaml").write_text("lr: ???\n")
    (folders / "conf" / "db").mkdir()
    (folders / "conf" / "db" / "mysql.yaml").write_text("driver: mysql\n")
    assert compose(["+sweep=quick"]).study == "quick"


@pytest.mark.parametrize(
    ("name", "content", "words", "told"),
    [
        ("conf/model/x.yaml", "hidden: 128\n", ["model=x"], "Key 'hidden' not in 'Model'"),
        ("conf/model/x.yaml", "", ["model=x"], "name"),
        ("conf/model/x.yaml", "- a\n", ["model=x"], "must be a mapping"),
        ("conf/optimizer/adam.yaml", "lr: 0.1\n", [], "must have name"),
        ("conf/loss/focal.yaml", "name: focal\n", ["loss=focal"], "must have _target_"),
        ("sweeps/x.yaml", "program: train.py\nmethod: bayes\n", ["+sweep=x"], "Key 'program'"),
        ("sweeps/x.yaml", "defaults: foo\n", ["+sweep=x"], "defaults must be a list"),
        ("sweeps/x.yaml", "defaults: [{nope: x}]\n", ["+sweep=x"], "Could not find 'sweep/nope/x'"),
        ("sweeps/x.yaml", "hydra: {run: {dir: x}}\n", ["+sweep=x"], "sets hydra"),
        ("sweeps/x.yaml", "sweep: [1]\n", ["+sweep=x"], "x.yaml"),
        ("sweeps/x.yaml", "study: 1.10\n", ["+sweep=x"], "study is the number 1.1 there"),
    ],
)
def test_a_file_of_another_tool_is_named(
    name: str, content: str, words: list[str], told: str, folders: Path
) -> None:
    file = folders / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    message = refused(*words)
    assert told in message
    assert str(file) in message


@pytest.mark.parametrize(("folder", "word"), [("conf/model", "model=b"), ("sweeps", "+sweep=b")])
def test_of_two_broken_files_the_one_that_is_asked_for_is_named(
    folder: str, word: str, folders: Path
) -> None:
    (folders / folder / "a.yaml").write_text("a: [")
    (folders / folder / "b.yaml").write_bytes(b"\xff\xfe\x00")
    message = refused(word)
    assert f"{folders / folder / 'b.yaml'} cannot be read" in message
    assert "a.yaml" not in message
    assert compose(["seed=1"]).seed == 1


@pytest.mark.parametrize(("folder", "word"), [("conf/model", "model=x"), ("sweeps", "+sweep=x")])
def test_links_other_suffixes_and_hidden_files_have_sentences_of_their_own(
    folder: str, word: str, folders: Path
) -> None:
    (folders / folder / "x.yml").write_text("name: x\n")
    assert f"{folders / folder / 'x.yml'} must be named x.yaml" in refused(word)
    (folders / folder / "x.yaml").symlink_to("nowhere")
    assert f"{folders / folder / 'x.yaml'} is a link to a file that is not there" in refused(word)
    (folders / folder / "._x.yaml").write_bytes(APPLE)
    assert "._x" not in option_names(word.partition("=")[0].lstrip("+"))


def test_what_cannot_be_read_stops_neither_help_nor_a_study(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("conf/model", "sweeps"):
        (folders / folder / "dangling.yaml").symlink_to("nowhere")
        (folders / folder / "binary.yaml").write_bytes(APPLE)
        (folders / folder / "._x.yaml").write_bytes(APPLE)
        (folders / folder / "folder.yaml").mkdir()
    (folders / "conf" / "loop").symlink_to(".")
    assert "+sweep=binary: (cannot be read)" in text()
    with caplog.at_level(logging.WARNING), frozen_files():
        assert compose(["model=tiny", "seed=5"]).model.name == "tiny"
    assert not caplog.records  # said once, when the command is composed
