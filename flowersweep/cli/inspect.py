"""Verbs that show the configuration, images, studies and runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from flowersweep.cli.hints import RUN, folder_of_study, same_store, studies
from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, StudyError, TrackingError, did_you_mean
from flowersweep.tracking.masking import masked_text
from flowersweep.util.output import require_output


def print_config(config: Config, overrides: Sequence[str]) -> None:
    """Print the composed configuration, key by key."""
    for path, value in flatten(config):
        shown = str(value).lower() if isinstance(value, bool) else value
        print(f"{path}={'null' if value is None else shown}")


def data(config: Config, overrides: Sequence[str]) -> None:
    """Fetch the images if necessary, verify every record and print a summary."""
    from flowersweep.data.dataset import open_dataset
    from flowersweep.data.duplicates import describe, duplicates

    dataset = open_dataset(
        config.data, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules)
    )
    height, width = dataset.image_size
    counts = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
    halves = f"val: tune {len(dataset.tune)}, holdout {len(dataset.holdout)}"
    print(
        f"{masked_text(dataset.dir)}: {len(dataset.classes)} classes, {height}x{width} pixels, "
        f"{counts} ({halves})"
    )
    print("\n".join([*dataset.remarks, f"every record is sound; digest {dataset.digest}"]))
    print(describe(duplicates(dataset, Path(config.dir) / "cache"), 5))


def status(config: Config, overrides: Sequence[str]) -> None:
    """Print the progress of one study, or of all; the process that runs it is not disturbed."""
    from flowersweep.report.status import line_of, screen, status

    if config.study:
        print(screen(status(folder_of_study(config, config.study))))
        return
    folders = [folder_of_study(config, name) for name in studies(config)]
    print(
        "\n".join(map(line_of, folders))
        or f"no studies in {config.dir}/ yet. Begin one: {RUN} +sweep=NAME{same_store(config)}"
    )


def report(config: Config, overrides: Sequence[str]) -> None:
    """Write an HTML page about a study, a comparison of studies, or a run."""
    from flowersweep.report import write_report

    if config.run:
        print(f"wrote {_report_of_run(config)}")
        return
    names = config.studies or [config.study or ""]
    folders = [folder_of_study(config, name) for name in names]
    usual = (
        folders[0] / "report.html"
        if len(folders) == 1
        else Path(config.dir) / f"report-{'-'.join(names)}.html"
    )
    print(f"wrote {write_report(folders, _output(config, usual))}")


def _output(config: Config, usual: Path) -> Path:
    path = Path(config.output or usual)
    return require_output(path, None if path.resolve() == usual.resolve() else Path(config.dir))


def _report_of_run(config: Config) -> Path:
    """Write the page of one run from its record in MLflow."""
    from flowersweep.report.run_page import write_run_report
    from flowersweep.tracking.recorded import load_run

    dir = Path(config.dir)
    path = _output(config, dir / f"report-{config.run}.html")
    with TemporaryDirectory(prefix="flowersweep-") as scratch:
        return write_run_report(
            load_run(str(config.run), config.tracking, dir, Path(scratch)), path, dir / "cache"
        )


def ui(config: Config, overrides: Sequence[str]) -> None:
    """Serve MLflow's pages, and optuna-dashboard if installed, on 127.0.0.1 until Ctrl-C."""
    from flowersweep.search.optuna_dashboard import dashboard
    from flowersweep.tracking.server import serve_ui

    names = [folder_of_study(config, config.study).name] if config.study else studies(config)
    journals = [Path(config.dir) / "studies" / name / "journal.jsonl" for name in names]
    print("MLflow's server starts, which may take half a minute", flush=True)
    try:
        with (
            serve_ui(config.tracking, Path(config.dir), config.port) as server,
            dashboard(journals, config.port + 1) as other,
        ):
            print(f"MLflow:            http://127.0.0.1:{config.port}")
            print(f"optuna-dashboard:  {other or 'not installed (pip install optuna-dashboard)'}")
            print("Ctrl-C ends " + ("both" if other else "it"), flush=True)
            server.wait()
    except KeyboardInterrupt:
        print("ended")
    else:
        raise TrackingError(f"MLflow's server has ended; what it said: {config.dir}/ui.log")


def sync(config: Config, overrides: Sequence[str]) -> None:
    """Send the events that MLflow lacks, of one study or of all; and what the bucket lacks."""
    damaged = []
    for name in [config.study] if config.study else studies(config):
        try:
            _send(config, name)
        except StudyError as error:  # the others are sent
            damaged.append(str(error))
    if damaged:
        raise StudyError("\n".join(damaged))


def _send(config: Config, name: str) -> None:
    from flowersweep.study.journal import lock_holder
    from flowersweep.tracking.shipper import sync as ship
    from flowersweep.workflows.buckets import send_study

    journal = Path(config.dir) / "studies" / name / "journal.jsonl"
    if not journal.exists():
        raise ConfigError(
            f'no study "{name}" in {config.dir}/. ' + did_you_mean(name, studies(config), "Studies")
        )
    if not config.study and (running := lock_holder(journal.parent)):
        print(f"{name}: left to {running}; to send it at the same time: sync study={name}")
        return
    if config.sync.to is not None:
        sent = "up to date now" if send_study(config, name) else "was up to date"
        print(f"{name}: {config.sync.to} {sent}")
    if config.tracking.enabled:
        print(f"{name}: {ship(journal, config.tracking, Path(config.dir))} events shipped")
