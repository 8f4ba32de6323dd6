"""Kill sweeps with SIGKILL, at moments that can be had again.

- ``fork_server.py`` runs commands in forks of a process that has imported everything. A command
dies
  at a moment that has a name ("in an epoch", "while the report is written"), or at its N-th
  writing.
- ``die_at_write.py`` is a command that dies at its N-th writing.

What is drawn at random is drawn from the fixture ``kill_seed``. To replay a kill, give the seed
that the failed test printed::

    FLOWERSWEEP_KILL_SEED=7 pytest -m '' tests/workflows/test_resume.py -k random_events

Another seed is another series of kills: a loop over seeds looks for moments nobody has thought of.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FORK_SERVER = Path(__file__).with_name("fork_server.py")
DIE_AT_WRITE = Path(__file__).with_name("die_at_write.py")
Fork = Callable[..., "subprocess.CompletedProcess[str]"]  # folder, words, moment (None: to its end)
Kill = tuple[int, float]  # the number of the writing, and the share of it that reaches the disk


@contextmanager
def forks(place: Path, environment: dict[str, str]) -> Iterator[Fork]:
    """Yield a function that runs a command in a fork, to its end or to a moment."""
    pipe = subprocess.PIPE
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, str(FORK_SERVER)],
            cwd=place,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=log,
            text=True,
        ) as process,
    ):
        requests, answers = process.stdin, process.stdout
        assert requests
        assert answers

        def run(
            folder: Path, words: list[str], moment: str | None = None
        ) -> subprocess.CompletedProcess[str]:
            out, error = place / "out", place / "error"
            request = {
                "moment": moment,
                "words": words,
                "folder": str(folder),
                "out": str(out),
                "error": str(error),
            }
            print(json.dumps(request), file=requests, flush=True)
            code = answers.readline()
            assert code, (place / "log").read_text()
            return subprocess.CompletedProcess(words, int(code), out.read_text(), error.read_text())

        yield run
        requests.close()


def until_it_ends(
    fork: Fork, project: Path, kind: str, most: int, words: list[str], seed: int
) -> tuple[list[Kill], subprocess.CompletedProcess[str]]:
    """Run a command that dies at a random writing, again and again, until it ends by itself.

    Args:
        kind: What it dies at the writing of: "event" or "checkpoint".
        most: It dies at a writing before this one, counted from 1 in each process.

    Returns:
        When it died, and the run that ended.
    """
    rng = np.random.default_rng(seed)
    kills: list[Kill] = []
    while True:
        number, share = int(rng.integers(1, most)), float(rng.choice([0.0, 0.3, 0.9, 1.0]))
        run: Any = fork(project, words, f"{kind} {number} {share}")
        if run.returncode == 0:
            assert kills, f"nothing was killed with the seed {seed}: take another"
            return kills, run
        kills.append((number, share))
        assert run.returncode == -signal.SIGKILL, run.stderr
        assert len(kills) < 40
