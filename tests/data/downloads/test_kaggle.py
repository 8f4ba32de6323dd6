"""Kaggle: each way it can refuse is told as the step that is still to be done.

Nothing here reaches the network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from flowersweep.data.downloads import kaggle
from flowersweep.errors import DataError

kagglehub = pytest.importorskip("kagglehub")


@pytest.fixture(autouse=True)
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody without Kaggle credentials, whose Kaggle is this machine: nothing listens there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / ".kaggle"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    for name in (
        "KAGGLE_API_TOKEN",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "KAGGLEHUB_CACHE",
        "KAGGLE_KERNEL_RUN_TYPE",
    ):
        monkeypatch.delenv(name, raising=False)


def download(
    cache: Path,
    competition: str = "flower-classification-with-tpus",
    folder: str = "tfrecords-jpeg-192x192",
) -> Path:
    return kaggle.download(cache, competition=competition, folder=folder)


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def competition_download(_: str) -> str:
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(kagglehub, "competition_download", competition_download)


def test_without_credentials_it_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"no Kaggle credentials .*kaggle.com/settings.*"
        r"KAGGLE_API_TOKEN.*kaggle.json.*data.dir=PATH",
    ):
        download(tmp_path)


def test_a_broken_credentials_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text("{")
    with pytest.raises(DataError, match=r"Invalid Kaggle credentials file at .*kaggle.json"):
        download(tmp_path)


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "0" * 32)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        DataError, match=r"no answer from Kaggle .*Check the network, or set data.dir=PATH"
    ):
        download(tmp_path)


def test_a_name_with_a_slash_is_no_competition(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"Invalid competition handle: c/flowers.*last part of the competition's address",
    ):
        download(tmp_path, competition="c/flowers")


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "does not know the API token"),
        (
            403,
            (
                "rules are not accepted. Open "
                "https://www.kaggle.com/competitions/flower-classification-with-tpus/rules"
            ),
        ),
        (404, "there is no such competition"),
        (500, "HTTP 500. Try again later"),
    ],
)
def test_a_refusal_is_told_as_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    response = requests.Response()
    response.status_code = status
    answers(monkeypatch, kagglehub.exceptions.KaggleApiHTTPError("refused", response))
    with pytest.raises(DataError, match=told):
        download(tmp_path)


def test_the_folder_of_a_download_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tfrecords-jpeg-192x192").mkdir()
    answers(monkeypatch, tmp_path)
    assert download(tmp_path) == tmp_path / "tfrecords-jpeg-192x192"


def test_an_unknown_folder_names_those_of_the_competition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tfrecords-jpeg-192x192").mkdir()
    answers(monkeypatch, tmp_path)
    with pytest.raises(
        DataError,
        match=r'no folder tfrecords-jpeg-193x193 .* Did you mean "tfrecords-jpeg-192x192"\?',
    ):
        download(tmp_path, folder="tfrecords-jpeg-193x193")


def test_downloads_are_kept_in_the_cache_and_the_environment_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kagglehub").mkdir()
    monkeypatch.setattr(kagglehub, "competition_download", lambda _: os.environ["KAGGLEHUB_CACHE"])
    with pytest.raises(DataError, match=f"has no folder .* in {tmp_path / 'kagglehub'}"):
        download(tmp_path)
    assert "KAGGLEHUB_CACHE" not in os.environ
