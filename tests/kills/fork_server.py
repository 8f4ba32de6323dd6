"""A process whose children run sweeps and kill themselves with SIGKILL at a moment that has a name.

It reads lines of JSON from standard input, with the keys moment (a name or null), words, folder,
out and error. For each line it forks a child that runs the command in the folder, and prints how
the child ended. What takes seconds to import is imported once. A moment is one of those below, or
``KIND NUMBER SHARE`` (see die_at_write.py).
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import plotly.offline  # noqa: F401

from flowersweep.__main__ import main
from flowersweep.report import page
from flowersweep.study.journal import Journal
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.stages.head import HeadStage
from flowersweep.util.files import atomic_write
from tests.kills.die_at_write import die_at

# does what is still done before the end; False if it is not the moment yet
Before = Callable[..., bool]


def die_in(owner: Any, name: str, before: Before) -> None:
    """Have a function die at the first of its calls that is the moment."""
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def dying(*args: Any, **more: Any) -> Any:
        if before(whole, *args, **more):
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args, **more)

    setattr(owner, name, dying)


def a_line(event: str, share: float, trial: int | None = None) -> None:
    """Die when a share of an event's line is on disk."""

    def before(write: Callable[..., None], journal: Journal, line: bytes) -> bool:
        said = json.loads(line)
        if said["event"] != event or trial not in (None, said["trial"]):
            return False
        write(journal, line[: int(len(line) * share)])
        return True

    die_in(Journal, "_write", before)


def an_epoch(whole: Callable[..., Any], *args: Any) -> bool:
    """Train the epoch, and lose it."""
    if args[-2].epoch != 2:  # the third, in the middle of the trial
        return False
    whole(*args)
    return True


def a_checkpoint(whole: Callable[..., None], checkpoint: Checkpoint, path: Path) -> bool:
    """Write half of a checkpoint."""
    if path.parent.name != "checkpoints":
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".partial").write_bytes(b"half")
    return True


def a_result(whole: Callable[..., Any], *args: Any) -> bool:
    """Score the trained trial, and lose that."""
    whole(*args)
    return True


def a_page(whole: Callable[..., Path], path: Path, text: str) -> bool:
    """Write half of the page."""
    with atomic_write(path) as file:
        file.write(text.encode()[: len(text) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return True


MOMENTS: dict[str, Callable[[], None]] = {
    "after ask": lambda: a_line("trial_asked", 1.0, 2),
    "in an epoch": lambda: die_in(HeadStage, "epoch", an_epoch),
    "in a checkpoint": lambda: die_in(Checkpoint, "save", a_checkpoint),
    "in the middle of a line": lambda: a_line("epochs_reported", 0.5, 1),
    "after the last epoch": lambda: die_in(trial, "finish", a_result),
    "between tell and shipping": lambda: a_line("trial_ended", 1.0, 1),
    "before the best model is noted": lambda: a_line("model_logged", 0.0),
    "while the report is written": lambda: die_in(page, "write_page", a_page),
}


def child(asked: dict[str, Any]) -> None:
    """Run one command to its end, or to the moment; does not return."""
    for stream, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.chdir(asked["folder"])
    if (moment := asked["moment"]) in MOMENTS:
        MOMENTS[moment]()
    elif moment:
        kind, number, share = moment.split()
        die_at(kind, int(number), float(share))
    code = 1
    try:
        code = main(asked["words"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
