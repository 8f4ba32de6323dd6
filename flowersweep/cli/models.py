"""Verbs about a model: promote it, train its run again, predict with it, export it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flowersweep.cli.hints import RUN, python, same_store
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError
from flowersweep.util.text import quantity, table


def promote(config: Config, overrides: Sequence[str]) -> int:
    """Retrain a study's best configurations and promote the chosen model if it passes the gate.

    Returns:
        Exit code: 0 if the model is now champion, 3 if the gate refused.
    """
    from flowersweep.session.progress import Progress
    from flowersweep.workflows.promotion.promote import promote as run
    from flowersweep.workflows.promotion.retraining import Observer

    with Progress(config.progress) as progress:

        def say(text: str) -> None:
            progress.close()
            print(text, flush=True)

        promoted = run(config, overrides, Observer(progress.features, progress.trial), say)
    if not promoted.moved:
        return 0
    use = f"{RUN} predict alias={promoted.alias}"
    print(f"predict with it:     {use} images=PATH{same_store(config)}")
    if _has_test(config):
        print(f"or the split test:   {use}{same_store(config)}")
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
    from flowersweep.workflows.replay import record, rows, verdict
    from flowersweep.workflows.replay import replay as run

    if not config.run:
        raise ConfigError(f"which run? {RUN} replay run=ID (the id on the run's page in MLflow)")
    dir = Path(config.dir)
    with (
        TemporaryDirectory(prefix="flowersweep-") as scratch,
        Progress(config.progress) as progress,
    ):
        recorded = load_run(config.run, config.tracking, dir, Path(scratch))
        result = run(
            recorded,
            config,
            overrides,
            features=progress.features,
            refused=dir / "replays" / recorded.run,
        )
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


def predict(config: Config, overrides: Sequence[str]) -> int:
    """Write the predictions of a registered model for a folder of images, or for a split.

    Returns:
        Exit code: 1 if an image could not be read and ``on_error=fail``, else 0.
    """
    from flowersweep.session.progress import Progress
    from flowersweep.workflows.predict import predict as run

    with Progress(config.progress) as progress:
        written = run(config, overrides, progress.features)
    split = "" if config.images is not None else f" of {config.split}"
    rate = "" if written.rate is None else f" ({written.rate:.3g} images/s)"
    print(f"wrote {written.path}: {quantity(written.images, 'image')}{split}{rate}")
    if config.tta_views > 1:
        changed = quantity(written.changed, "label")
        print(f"{changed} changed by the views, against the image alone (tta_views=1)")
    if not written.broken:
        return 0
    print(f"{written.broken} could not be read, first {written.first_error}")
    return 1 if config.on_error == "fail" else 0


def export(config: Config, overrides: Sequence[str]) -> None:
    """Write a registered model for other programs: Keras, TensorFlow, ONNX, LiteRT or OpenVINO."""
    from flowersweep.workflows.export import export as run

    folder = run(config)
    print(f"wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    print(f"try it:              {python()} {folder / 'classify.py'} PHOTOGRAPH")
    print(f"how to call it:      {folder / 'README.md'}")
