"""One function a verb: it takes the composed Config and the words it came from, calls one function below, and prints its outcome."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from flowersweep.compose import options
from flowersweep.config import Config, flatten
from flowersweep.errors import ConfigError, did_you_mean
from flowersweep.tracking.masking import masked_text


def _python() -> str:
    """How the user can call this Python again: by name if that is what the name means, else by its path."""
    own, named = Path(sys.executable), shutil.which("python")
    if named and Path(named).parent == own.parent:
        return "python"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


RUN = f"{_python()} -m flowersweep"


def train(config: Config, overrides: Sequence[str]) -> None:
    """Train one configuration: a sweep of one trial, named by what it is, so that the same training is not done twice."""
    from flowersweep.search.run import FREE

    settings = {path: value for path, value in flatten(config) if not path.startswith((*FREE, "sweep"))}
    name = "train-" + hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()[:8]
    named = any(word.startswith("study=") for word in overrides)
    once = replace(config.sweep, n_trials=1, space={})
    _search(replace(config, study=config.study if named else name, sweep=once), overrides, experiment=None if named else "train")


def search(config: Config, overrides: Sequence[str]) -> None:
    """Run a sweep, or go on with it, and show its trials."""
    if not config.sweep.space:
        raise ConfigError(f"no sweep is chosen: add +sweep=NAME. Sweeps: {', '.join(options('sweep'))}")
    _search(config, overrides)


def _search(config: Config, overrides: Sequence[str], experiment: str | None = None) -> None:
    from flowersweep.search.run import followed
    from flowersweep.search.run import search as run
    from flowersweep.show import Progress, summary, trials_table

    if followed(config, overrides):
        print("the study has ended; host 0 has its results")
        return
    progress = Progress(config.progress)
    try:
        outcome = run(config, overrides, experiment=experiment, features=progress.features, watch=progress.trial)
    finally:
        progress.close()
    print(trials_table(outcome, config.sweep.objective))
    print(summary(outcome))
    if outcome.best is None:
        print("no trial was completed; nothing to promote")
        return
    print(outcome.claim)
    if not config.tracking.enabled:
        print("nothing of it is in MLflow; the same command without tracking.enabled=false sends it there")
    elif not outcome.shipped:
        print(f"not all of it is in MLflow yet; later:   {RUN} sync study={config.study}{_same(config)}")
    else:
        print(f"compare in MLflow:   {RUN} ui{_same(config)}")
        print(f"promote the best:    {RUN} promote study={config.study}{_same(config)}")


def _same(config: Config) -> str:
    """The words that a next command needs to find the same store."""
    words = {"dir": config.dir, "tracking.uri": config.tracking.uri, "tracking.registered_model": config.tracking.registered_model}
    usual = dict(flatten(Config()))
    return "".join(f" {key}={masked_text(str(value))}" for key, value in words.items() if value != usual[key])


def promote(config: Config, overrides: Sequence[str]) -> None:
    """Register the model of a study's best trial and move the alias `champion` to it."""
    from flowersweep.search.run import evidence
    from flowersweep.tracking import registry

    if not config.study:
        raise ConfigError(f"whose best model? {RUN} promote study=NAME. " + did_you_mean("", _studies(config), "Studies"))
    told = evidence(config)
    version = registry.promote(config.study, config.tracking, Path(config.dir), evidence=told)
    print(f"{version.name} version {version.version} is now champion (run {version.run_id})")
    print(told.get("flowersweep.claim", ""))
    print(f"predict with it:     {RUN} predict alias=champion split=test{_same(config)}")


def predict(config: Config, overrides: Sequence[str]) -> None:
    """Write the predictions of a registered model as a submission file: id,label."""
    from flowersweep.predict import predict as run

    path, images = run(config, overrides)
    print(f"wrote {path}: {images} images of {config.split}")


def ui(config: Config, overrides: Sequence[str]) -> None:
    """Serve the MLflow pages of this store on 127.0.0.1 until interrupted."""
    from flowersweep.tracking.server import serve

    said = f"MLflow at http://127.0.0.1:{config.port} (first start up to half a minute; Ctrl-C ends it)"
    serve(config.tracking, Path(config.dir), config.port, lambda: print(said, flush=True))


def sync(config: Config, overrides: Sequence[str]) -> None:
    """Ship what MLflow does not have yet of one study, or of all."""
    from flowersweep.tracking.shipper import sync as ship

    for name in [config.study] if config.study else _studies(config):
        journal = Path(config.dir) / "studies" / name / "journal.jsonl"
        if not journal.exists():
            raise ConfigError(f'no study "{name}" in {config.dir}/. ' + did_you_mean(name, _studies(config), "Studies"))
        print(f"{name}: {ship(journal, config.tracking, Path(config.dir))} events shipped")


def data(config: Config, overrides: Sequence[str]) -> None:
    """Fetch the images if need be, verify every record, and say what is there."""
    from flowersweep.data.dataset import open_dataset

    found = open_dataset(config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules))
    height, width = found.image_size
    counts = ", ".join(f"{name} {len(split)}" for name, split in found.splits.items())
    halves = f"val: tune {len(found.tune)}, report {len(found.report)}"
    print(f"{found.dir}: {len(found.classes)} classes, {height}x{width} pixels, {counts} ({halves})")
    print(f"every record is sound; digest {found.digest}")


def check(config: Config, overrides: Sequence[str]) -> int:
    """Say whether a training fits a slice of TPU chips, and how fast it can be there; the exit code is 1 if it does not fit."""
    from flowersweep.check import check as run

    return 0 if run(config, partial(print, flush=True)) else 1


def show(config: Config, overrides: Sequence[str]) -> None:
    """Print the composed configuration, key by key."""
    for path, value in flatten(config):
        print(f"{path}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}")


def _studies(config: Config) -> list[str]:
    return sorted(path.parent.name for path in (Path(config.dir) / "studies").glob("*/journal.jsonl"))
