"""One function a verb: it takes the composed Config and the words it came from, calls one function below, and prints its outcome."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flowersweep.compose import options
from flowersweep.config import Config, Data, flatten
from flowersweep.errors import ConfigError, DataError, TrackingError, did_you_mean
from flowersweep.tracking.masking import masked_text

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


def _python() -> str:
    """How the user can call this Python again: by name if that is what the name means, else by its path."""
    own, named = Path(sys.executable), shutil.which("python")
    if named and Path(named).parent == own.parent:
        return "python"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


RUN = f"{_python()} -m flowersweep"


def train(config: Config, overrides: Sequence[str]) -> None:
    """Train one configuration: a sweep of one trial, named by what it is, so that the same training is not done twice."""
    from flowersweep.search.opening import FREE

    settings = {path: value for path, value in flatten(config) if not path.startswith((*FREE, "sweep"))}
    name = "train-" + hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()[:8]
    named = any(word.startswith("study=") for word in overrides)
    once = replace(config.sweep, n_trials=1, workers=1, space={}, constraints=[])
    alone = replace(config, study=config.study if named else name, engine="optuna", sweep=once)
    _search(alone, overrides, experiment=None if named else "train")


def search(config: Config, overrides: Sequence[str]) -> None:
    """Run a sweep, or go on with it, and show its trials."""
    if not config.sweep.space:
        raise ConfigError(f"no sweep is chosen: add +sweep=NAME. Sweeps: {', '.join(options('sweep'))}")
    _search(config, overrides)


def _search(config: Config, overrides: Sequence[str], experiment: str | None = None) -> None:
    from flowersweep.search.run import followed
    from flowersweep.search.run import search as run
    from flowersweep.show import Progress, findings_text, summary, trials_table

    if followed(config, overrides):
        print("the study has ended; host 0 has its results")
        return
    progress = Progress(config.progress)
    try:
        outcome = run(config, overrides, experiment=experiment, features=progress.features, watch=progress.trial)
    finally:
        progress.close()
    print(trials_table(outcome, config.sweep.objective, config.sweep.objectives[1:]))
    print(summary(outcome))
    if outcome.stopped:
        print(f"{outcome.stopped}. Go on:   {_longer(config, overrides, outcome.forecast)}")
    print("no trial was completed; nothing to promote" if outcome.best is None else outcome.claim)
    if outcome.findings:
        print(findings_text(outcome.findings))
    _page(config, sent=outcome.shipped and config.tracking.enabled)
    if outcome.best is None:
        return
    if not config.tracking.enabled:
        print("nothing of it is in MLflow; the same command without tracking.enabled=false sends it there")
    elif not outcome.shipped:
        print(f"not all of it is in MLflow yet; later:   {RUN} sync study={config.study}{_same(config)}")
    else:
        print(f"compare in MLflow:   {RUN} ui{_same(config)}")
        print(f"promote the best:    {RUN} promote study={config.study}{_same(config)}")


def _longer(config: Config, overrides: Sequence[str], forecast: float | None) -> str:
    """The command that goes on with a study whose minutes are used up."""
    more = max(math.ceil(2 * (config.sweep.budget.minutes or 0)), math.ceil(forecast or 1))
    words = [word for word in overrides if not word.startswith("sweep.budget.minutes=")]
    return f"{RUN} {shlex.join(map(masked_text, words))} sweep.budget.minutes={more}"


def _page(config: Config, *, sent: bool = False) -> None:
    """Write a sweep's page and keep it in MLflow too if all else was ``sent``; what is wrong with it must not spoil what it is about."""
    from flowersweep.report.facts import mistakes
    from flowersweep.report.reading import reading
    from flowersweep.report.write import write

    try:
        folder = _folder(config, str(config.study))
        if config.sweep.space:
            print(f"read the report:     {write([folder], folder / 'report.html')}")
        else:
            mistakes(reading(folder))  # of a single training MLflow's own page and these pictures are enough
        if sent:
            _keep_page(config, folder)
    except Exception as error:
        log.warning("no report was written (%s: %s); later:   %s report study=%s", type(error).__name__, error, RUN, config.study)


def _keep_page(config: Config, folder: Path) -> None:
    """Keep the page with the study's run in MLflow, and the pictures of mistakes with that of the trial."""
    from flowersweep.tracking.recorded import attach_files
    from flowersweep.tracking.shipper import run_ids

    runs = run_ids(folder / "journal.jsonl", config.tracking, Path(config.dir))
    files = {run: [*folder.glob(f"trials/{number}/mistakes.*")] for number, run in runs.trials.items()}
    pages = {runs.parent: [*folder.glob("report.html")]} if runs.parent else {}
    attach_files({run: paths for run, paths in {**files, **pages}.items() if paths}, config.tracking, Path(config.dir))


def report(config: Config, overrides: Sequence[str]) -> None:
    """Write one page about a study, one that compares several, or one about a run."""
    from flowersweep.report.write import write

    if config.run:
        print(f"wrote {_report_of_run(config)}")
        return
    names = config.studies or [config.study or ""]
    folders = [_folder(config, name) for name in names]
    usual = folders[0] / "report.html" if len(folders) == 1 else Path(config.dir) / f"report-{'-'.join(names)}.html"
    print(f"wrote {write(folders, _output(config, usual))}")


def _output(config: Config, usual: Path) -> Path:
    path = Path(config.output) if config.output else usual
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"output={path}: must be a file in a folder that exists")
    return path


def _report_of_run(config: Config) -> Path:
    """Write the page of one run, from what MLflow holds of it."""
    from flowersweep.report.single import write
    from flowersweep.tracking.recorded import recorded

    dir = Path(config.dir)
    path = _output(config, dir / f"report-{config.run}.html")
    with TemporaryDirectory(prefix="flowersweep-") as scratch:
        return write(recorded(str(config.run), config.tracking, dir, Path(scratch)), path, dir / "cache")


def status(config: Config, overrides: Sequence[str]) -> None:
    """Say how far a study is, or all of them, without disturbing whoever runs it."""
    from flowersweep.report.status import line, screen, status

    if config.study:
        print(screen(status(_folder(config, config.study))))
        return
    found = [status(_folder(config, name)) for name in _studies(config)]
    print("\n".join(map(line, found)) or f"no studies in {config.dir}/ yet. Begin one: {RUN} +sweep=NAME")


def _folder(config: Config, name: str) -> Path:
    """The folder of a study that exists."""
    if name not in _studies(config):
        wrong = f'no study "{name}" in {config.dir}/' if name else "which study? study=NAME"
        raise ConfigError(f"{wrong}. " + did_you_mean(name, _studies(config), "Studies"))
    return Path(config.dir) / "studies" / name


def _same(config: Config) -> str:
    """The words that a next command needs to find the same store."""
    words = {"dir": config.dir, "tracking.uri": config.tracking.uri, "tracking.registered_model": config.tracking.registered_model}
    usual = dict(flatten(Config()))
    return "".join(f" {key}={masked_text(str(value))}" for key, value in words.items() if value != usual[key])


def promote(config: Config, overrides: Sequence[str]) -> int:
    """Train a study's best configurations anew and make the chosen model `champion` if the evidence carries it; else exit code 3."""
    if config.force != bool(config.reason):
        raise ConfigError('force=true wants a reason, and a reason wants force=true: promote study=NAME force=true reason="..."')
    if config.version is not None:
        return _restored(config)
    if not config.study and not config.run:
        raise ConfigError(f"whose best model? {RUN} promote study=NAME. " + did_you_mean("", _studies(config), "Studies"))
    if config.force:
        return _promoted(config, None, {"flowersweep.forced": str(config.reason)}, better=True)
    if not config.tracking.enabled:
        raise ConfigError("the registry is MLflow's: promote without tracking.enabled=false")
    return _gate_of_run(config) if config.run else _gate(config, overrides)


def _gate(config: Config, overrides: Sequence[str]) -> int:
    """Ask the gate about a study."""
    from flowersweep.predict import report_logits
    from flowersweep.report.evidence import html, markdown, rows, sentences
    from flowersweep.search.ensemble_promotion import ensemble_promotion, pooled
    from flowersweep.search.promotion import promotion
    from flowersweep.show import Progress, table
    from flowersweep.tracking import registry

    _folder(config, str(config.study))
    dir, progress = Path(config.dir), Progress(config.progress)
    before = registry.holder(config.tracking, dir)

    def champion(trained: Config) -> np.ndarray:
        try:
            return report_logits(trained, alias=registry.CHAMPION)[0]
        except DataError as error:
            another = "promote into a registered model of its own: tracking.registered_model=NAME"
            raise DataError(f"the champion cannot be compared with: {error}; or {another}") from error

    asked = ensemble_promotion if pooled(config) else promotion
    try:
        found = asked(config, overrides, champion if before else None, features=progress.features, watch=progress.trial)
    finally:
        progress.close()
    if before and before.run_id == found.run:
        print(f"{before.name} version {before.version} is the champion already")
        return 0
    told = {**found.evidence, "champion": {"version": before.version, "run": before.run_id} if before else None}
    print("\n".join([table(rows(told)), "", *sentences(told)]))
    files = {"evidence.json": json.dumps(told, indent=1), "evidence.html": html(told)}
    claim = {"flowersweep.claim": " ".join(sentences(told))[:5000]}
    return _promoted(config, found.run, claim, better=found.better, description=markdown(told), files=files)


def _gate_of_run(config: Config) -> int:
    """Ask the gate about the model of one run, of which there is one seed."""
    from flowersweep.evaluation.gate import judge
    from flowersweep.predict import report_logits
    from flowersweep.tracking import registry

    dir = Path(config.dir)
    before = registry.holder(config.tracking, dir)
    if before is None or before.run_id == config.run:
        return _promoted(config, config.run, {}, better=True)
    trained = replace(config, data=Data(**registry.facts(config.tracking, dir, run=config.run)["data"]))
    mine, labels = report_logits(trained, run=config.run)
    found = judge([mine], report_logits(trained, alias=registry.CHAMPION)[0], labels, [[mine]])
    gained = f"{found.value:+.4f} macro F1 on {len(labels)} held-out images ({found.low:+.4f} to {found.high:+.4f}, by the images alone)"
    print(f"against the champion: {gained}; what other seeds would give is not known of a single run")
    return _promoted(config, config.run, {"flowersweep.claim": gained}, better=found.better)


def _promoted(
    config: Config, run: str | None, tags: Mapping[str, str], *, better: bool, description: str = "", files: Mapping[str, str] | None = None
) -> int:
    """Register a model as champion or challenger, with what carries it; return the exit code."""
    from flowersweep.search.promotion import evidence
    from flowersweep.tracking import registry

    alias, dir = registry.CHAMPION if better else registry.CHALLENGER, Path(config.dir)
    run = run or config.run
    noted, before = {**({} if run else evidence(config)), **tags}, registry.holder(config.tracking, dir, alias)
    version = registry.promote(config.study or "", config.tracking, dir, run=run, alias=alias, evidence=noted)
    if description or files:
        registry.attach(version, config.tracking, dir, description=description, files=files or {})
    print(f"{version.name} version {version.version} is now {alias} (run {version.run_id})")
    print(f"predict with it:     {RUN} predict alias={alias} split=test{_same(config)}")
    if better and before and str(before.version) != str(version.version):
        print(f'go back:             {RUN} promote version={before.version} force=true reason="..."{_same(config)}')
    return 0 if better else 3


def _restored(config: Config) -> int:
    """Make a version that was champion before the champion again."""
    from flowersweep.tracking import registry

    if not config.force or config.study or config.run:
        raise ConfigError(f'no gate is asked to go back to a version: {RUN} promote version={config.version} force=true reason="..."')
    version = registry.restore(int(config.version or 0), config.tracking, Path(config.dir), reason=str(config.reason))
    print(f"{version.name} version {version.version} is {registry.CHAMPION} again (run {version.run_id})")
    return 0


def predict(config: Config, overrides: Sequence[str]) -> None:
    """Write the predictions of a registered model as a submission file: id,label."""
    from flowersweep.predict import predict as run

    written = run(config, overrides)
    print(f"wrote {written.path}: {written.images} images of {config.split}")
    if config.views > 1:
        print(f"{written.changed} labels are not those of one view (the image alone, views=1)")


def replay(config: Config, overrides: Sequence[str]) -> int:
    """Train a run again from what MLflow holds of it and say which digits agree; exit code 3 if fewer do than must."""
    from flowersweep.replay import record, rows, verdict
    from flowersweep.replay import replay as run
    from flowersweep.show import Progress, table
    from flowersweep.tracking.recorded import attach, recorded

    if not config.run:
        raise ConfigError(f"which run? {RUN} replay run=ID (the id on the run's page in MLflow)")
    dir, progress = Path(config.dir), Progress(config.progress)
    with TemporaryDirectory(prefix="flowersweep-") as scratch:
        found = recorded(config.run, config.tracking, dir, Path(scratch))
        try:
            result = run(found, config, overrides, features=progress.features, refused=dir / "replays" / found.run)
        finally:
            progress.close()
    print(f"{found.name}, run {found.run}: {result.epochs} epochs trained again")
    print("\n".join([table(rows(result)), "", verdict(result)]))
    when = time.strftime("%Y-%m-%dT%H-%M-%S")
    told = json.dumps({"time": when, **record(result)}, indent=1)
    attach(found.run, config.tracking, dir, files={f"replay/{when}.json": told}, tags={"flowersweep.replay": verdict(result)})
    return 0 if result.agrees else 3


def ui(config: Config, overrides: Sequence[str]) -> None:
    """Serve the MLflow pages of this store, and optuna-dashboard where it is installed, on 127.0.0.1 until interrupted."""
    from flowersweep.search.dashboard import dashboard
    from flowersweep.tracking.server import served

    names = [_folder(config, config.study).name] if config.study else _studies(config)
    journals = [Path(config.dir) / "studies" / name / "journal.jsonl" for name in names]
    print("MLflow's server starts, which may take half a minute", flush=True)
    try:
        with served(config.tracking, Path(config.dir), config.port) as server, dashboard(journals, config.port + 1) as other:
            print(f"MLflow:            http://127.0.0.1:{config.port}")
            print(f"optuna-dashboard:  {other or 'not installed (pip install optuna-dashboard)'}")
            print("Ctrl-C ends " + ("both" if other else "it"), flush=True)
            server.wait()
    except KeyboardInterrupt:
        print("ended")
    else:
        raise TrackingError(f"MLflow's server has ended; what it said: {config.dir}/ui.log")


def sync(config: Config, overrides: Sequence[str]) -> None:
    """Ship what MLflow does not have yet of one study, or of all."""
    from flowersweep.journal import holder
    from flowersweep.tracking.shipper import sync as ship

    for name in [config.study] if config.study else _studies(config):
        journal = Path(config.dir) / "studies" / name / "journal.jsonl"
        if not journal.exists():
            raise ConfigError(f'no study "{name}" in {config.dir}/. ' + did_you_mean(name, _studies(config), "Studies"))
        if not config.study and (running := holder(journal.parent)):
            print(f"{name}: left to {running}; to send it beside that: sync study={name}")
            continue
        print(f"{name}: {ship(journal, config.tracking, Path(config.dir))} events shipped")


def data(config: Config, overrides: Sequence[str]) -> None:
    """Fetch the images if need be, verify every record, and say what is there."""
    from flowersweep.data.dataset import open_dataset
    from flowersweep.data.duplicates import duplicates, told

    found = open_dataset(config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules))
    height, width = found.image_size
    counts = ", ".join(f"{name} {len(split)}" for name, split in found.splits.items())
    halves = f"val: tune {len(found.tune)}, report {len(found.report)}"
    print(f"{found.dir}: {len(found.classes)} classes, {height}x{width} pixels, {counts} ({halves})")
    print(f"every record is sound; digest {found.digest}")
    print(told(duplicates(found, Path(config.dir) / "cache"), 5))


def check(config: Config, overrides: Sequence[str]) -> int:
    """Say whether a training fits a slice of TPU chips, and how fast it can be there; the exit code is 1 if it does not fit."""
    from flowersweep.check import check as run

    return 0 if run(config, partial(print, flush=True)) else 1


def plan(config: Config, overrides: Sequence[str]) -> int:
    """Say what a sweep will do and cost, and whether it fits a slice of TPU chips if one is named; the exit code is 1 if over budget."""
    from flowersweep.data.dataset import open_dataset
    from flowersweep.search.plan import plan as run

    within = run(config, overrides, partial(print, flush=True))
    if config.topology is None:
        return 0 if within else 1
    images = open_dataset(config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules))
    fits = check(replace(config, data=replace(config.data, dir=images.dir)), overrides) == 0
    return 0 if within and fits else 1


def show(config: Config, overrides: Sequence[str]) -> None:
    """Print the composed configuration, key by key."""
    for path, value in flatten(config):
        print(f"{path}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}")


def _studies(config: Config) -> list[str]:
    return sorted(path.parent.name for path in (Path(config.dir) / "studies").glob("*/journal.jsonl"))
