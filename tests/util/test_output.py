"""Where ``output=`` may write, and what it does to what is there."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flowersweep.errors import ConfigError, StudyError
from flowersweep.util.output import open_output, require_output


@pytest.mark.parametrize("name", ["", "nowhere/x.csv", "file/x.csv", "x" * 250])
def test_an_output_that_cannot_be_written_is_refused_before_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output="):
        require_output(tmp_path / name)
    assert require_output(tmp_path / "x.csv") == tmp_path / "x.csv"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pipe_is_written_into_as_a_shell_would(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with open_output(require_output(pipe, tmp_path)) as file:
        file.write(b"id,label\n")
    reader.join(10)
    assert read == [b"id,label\n"]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_device_is_written_into_and_a_full_one_is_named(tmp_path: Path) -> None:
    for name in ("/dev/null", "/dev/full"):
        assert require_output(Path(name), tmp_path) == Path(name)
    with open_output(Path("/dev/null")) as file:
        file.write(b"x")
    with pytest.raises(StudyError, match="/dev/full"), open_output(Path("/dev/full")) as file:
        file.write(b"x")
    assert all(Path(name).is_char_device() for name in ("/dev/null", "/dev/full"))


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    (tmp_path / "link").symlink_to("file")
    with open_output(require_output(tmp_path / "link", tmp_path)) as file:
        file.write(b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "after"


@pytest.mark.parametrize(
    "name",
    [
        "mlruns/studies/s/journal.jsonl",
        "mlruns/studies/s/trials/new.csv",
        "mlruns/studies/new.csv",
        "mlruns/mlflow.db",
        "mlruns/mlflow.db-wal",
        "mlruns/artifacts/x.csv",
        "mlruns/cache/x.csv",
        "store.db",
        "other/studies/s/report.html",
        "link",
        "elsewhere/../mlruns/mlflow.db",
    ],
)
def test_a_file_of_a_study_or_a_store_is_no_output(name: str, tmp_path: Path) -> None:
    for folder in ("mlruns/studies/s", "other/studies/s"):
        (tmp_path / folder).mkdir(parents=True)
        for file in ("journal.jsonl", "lock"):
            (tmp_path / folder / file).touch()
    for folder in ("mlruns/studies/s/trials", "mlruns/artifacts", "mlruns/cache", "elsewhere"):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "mlruns" / "mlflow.db").touch()
    (tmp_path / "link").symlink_to(tmp_path / "mlruns" / "studies" / "s" / "journal.jsonl")
    with closing(sqlite3.connect(tmp_path / "store.db")) as store:
        store.execute("create table runs (id)")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=r"belongs to a study or to MLflow.*output=PATH"):
        require_output(tmp_path / name, tmp_path / "mlruns")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_page_beside_the_studies_is_an_output(tmp_path: Path) -> None:
    assert require_output(tmp_path / "report-a-b.html", tmp_path) == tmp_path / "report-a-b.html"
