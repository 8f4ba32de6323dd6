"""The name that only one user of one machine knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep.util.secret_name import LENGTH, secret_name


@pytest.fixture(autouse=True)
def forgotten() -> None:
    secret_name.cache_clear()


def test_the_name_stays_and_is_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a"))
    name = secret_name()
    secret_name.cache_clear()
    assert (secret_name(), len(name)) == (name, LENGTH)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("secret_name")] == [
        0o600
    ]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "b"))
    secret_name.cache_clear()
    assert secret_name() != name


def test_without_a_folder_for_it_there_is_a_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    name = secret_name()
    secret_name.cache_clear()
    assert (secret_name(), len(name)) == (name, LENGTH)
