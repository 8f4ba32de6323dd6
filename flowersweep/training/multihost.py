"""Several hosts, one study: host 0 asks, tells and writes; the others compute what it computes,
order by order.

A computation that needs all devices is started by all processes, with the same calls in the same
order. Host 0 names each one to the others before it begins it. What fails a trial, a loss that is
not finite, does so on all of them; any other error ends them all.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowersweep.errors import ConfigError, TrialFailed
from flowersweep.runtime import Runtime
from flowersweep.space.space import Space
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

SHARE, LOAD, ADVANCE, FINISH, END = "share", "load", "advance", "finish", "end"


def broadcast_command(
    runtime: Runtime,
    what: str,
    params: dict[str, Any] | None = None,
    until: int = 0,
    seed: int | None = None,
) -> None:
    """Tell the other hosts, if there are any, what is computed next: of the trial with these
    parameters, until so many epochs.

    ``seed`` is that of a trial which repeats another.
    """
    runtime.broadcast_bytes(json.dumps([what, params, until, seed]).encode())


def run_follower(space: Space, context: TrainingContext) -> None:
    """Compute what host 0 orders, until it says that the study has ended."""
    checkpoint = Checkpoint()
    while True:
        what, params, until, seed = json.loads(context.runtime.broadcast_bytes(None))
        if what == END:
            return
        config = space.config(params)
        config = config if seed is None else replace(config, seed=seed)
        # host 0 has it too, and tells it
        with contextlib.suppress(TrialFailed, ConfigError):
            if what == SHARE:
                context.precompute_features(config)
            elif what == LOAD:
                checkpoint = load_checkpoint(None, context.runtime)
            elif what == ADVANCE:
                checkpoint, _ = trial.advance(config, checkpoint, until, context)
            elif what == FINISH:
                trial.finish(config, checkpoint, context)


def load_checkpoint(source: Path | bytes | None, runtime: Runtime) -> Checkpoint:
    """Return, on all hosts, the checkpoint that host 0 has: a file or what was in it; the one
    before the first epoch if there is none.
    """
    if runtime.hosts == 1 and isinstance(source, Path):
        return Checkpoint.resume(source, runtime.replicated)
    content = runtime.broadcast_bytes(
        source.read_bytes()
        if isinstance(source, Path) and source.exists()
        else source
        if isinstance(source, bytes)
        else None
    )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoint.npz"
        if content:
            copy.write_bytes(content)
        return Checkpoint.resume(copy, runtime.replicated)
