"""Verbs about one model's training: promote it, replay it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flowersweep.cli.hints import RUN, same_store
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError


def promote(config: Config, overrides: Sequence[str]) -> int:
    """Retrain a study's best configurations and promote the chosen model if it passes the gate.

    Returns:
        Exit code: 0 if the model is now champion, 3 if the gate refused.
    """
    from flowersweep.session.progress import Progress
    from flowersweep.workflows.promotion.promote import promote as run
    from flowersweep.workflows.promotion.retraining import Observer

    progress = Progress(config.progress)

    def say(text: str) -> None:
        progress.close()
        print(text, flush=True)

    try:
        promoted = run(config, overrides, Observer(progress.features, progress.trial), say)
    finally:
        progress.close()
    if not promoted.moved:
        return 0
    predict = f"{RUN} predict alias={promoted.alias}"
    print(f"predict with it:     {predict} images=PATH{same_store(config)}")
    if _has_test(config):
        print(f"or the split test:   {predict}{same_store(config)}")
    before, version = promoted.before, promoted.version
    if promoted.better and before and str(before.version) != str(version.version):
        print(
            f"go back:             {RUN} promote version={before.version} force=true "
            f'reason="..."{same_store(config)}'
        )
    return 0 if promoted.better else 3


def _has_test(config: Config) -> bool:
    from flowersweep.study.records import read_study

    if not config.study:
        return False
    started = read_study(Path(config.dir) / "studies" / config.study).started
    return bool("test" in started.provenance.get("data", {}).get("counts", {}))


def replay(config: Config, overrides: Sequence[str]) -> int:
    """Retrain a run from its MLflow record and print how many digits agree.

    Returns:
        Exit code: 0 if enough digits agree, else 3.
    """
    from flowersweep.session.progress import Progress
    from flowersweep.tracking.recorded import attach, load_run
    from flowersweep.util.text import table
    from flowersweep.workflows.replay import record, rows, verdict
    from flowersweep.workflows.replay import replay as run

    if not config.run:
        raise ConfigError(f"which run? {RUN} replay run=ID (the id on the run's page in MLflow)")
    dir, progress = Path(config.dir), Progress(config.progress)
    with TemporaryDirectory(prefix="flowersweep-") as scratch:
        recorded = load_run(config.run, config.tracking, dir, Path(scratch))
        try:
            result = run(
                recorded,
                config,
                overrides,
                features=progress.features,
                refused=dir / "replays" / recorded.run,
            )
        finally:
            progress.close()
    print(f"{recorded.name}, run {recorded.run}: {result.epochs} epochs trained again")
    print("\n".join([table(rows(result)), "", verdict(result)]))
    when = time.strftime("%Y-%m-%dT%H-%M-%S")
    report = json.dumps({"time": when, **record(result)}, indent=1)
    attach(
        recorded.run,
        config.tracking,
        dir,
        files={f"replay/{when}.json": report},
        tags={"flowersweep.replay": verdict(result)},
    )
    return 0 if result.agrees else 3
