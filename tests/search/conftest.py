"""What the tests of a search share: the workshop of the tests of training, and commands that die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import environment
from tests.training.conftest import workshop

__all__ = ["workshop"]

Fork = Callable[..., "subprocess.CompletedProcess[str]"]  # folder, words, moment to die at (None: none)


@pytest.fixture(scope="session")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """Run a command in a process that is forked from one which has imported everything, to its end or to a moment (dying.py)."""
    place, pipe = tmp_path_factory.mktemp("forks"), subprocess.PIPE
    line = [sys.executable, str(Path(__file__).with_name("dying.py"))]
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(line, cwd=place, env=environment(), stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        assert process.stdin
        assert process.stdout

        def run(folder: Path, words: list[str], moment: str | None = None) -> subprocess.CompletedProcess[str]:
            asked = {
                "moment": moment,
                "words": words,
                "folder": str(folder),
                "out": str(place / "out"),
                "error": str(place / "error"),
            }
            print(json.dumps(asked), file=process.stdin, flush=True)
            code = process.stdout.readline()  # type: ignore[union-attr]
            assert code, (place / "log").read_text()
            return subprocess.CompletedProcess(words, int(code), (place / "out").read_text(), (place / "error").read_text())

        yield run
        process.stdin.close()
