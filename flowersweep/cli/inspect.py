"""Verbs that show the configuration, images, studies and runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flowersweep.cli.hints import RUN, require_format, same_store
from flowersweep.config.paths import flatten
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, StudyError, TrackingError, did_you_mean
from flowersweep.tracking.masking import masked_text
from flowersweep.util.output import require_output
from flowersweep.workflows.studies import folder_of_study, study_names


def print_config(config: Config, overrides: Sequence[str]) -> None:
    """Print the composed configuration, key by key."""
    for path, value in flatten(config):
        shown = str(value).lower() if isinstance(value, bool) else value
        print(f"{path}={'null' if value is None else shown}")


def data(config: Config, overrides: Sequence[str]) -> None:
    """Fetch the images if necessary, verify every record, and write a page about them."""
    from flowersweep.data.dataset import open_dataset
    from flowersweep.data.duplicates import describe, duplicates
    from flowersweep.report.images.location import page_path
    from flowersweep.session.progress import Progress
    from flowersweep.workflows.images_page import write_images_page
    from flowersweep.workflows.pages import output_path

    if config.output is not None:
        require_output(Path(config.output), Path(config.dir))
    images = replace(config.data, train_on="train")
    dataset = open_dataset(
        images, Path(config.dir) / "cache", trusted=tuple(config.trusted_modules)
    )
    height, width = dataset.image_size
    counts = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
    halves = f"val: tune {len(dataset.tune)}, holdout {len(dataset.holdout)}"
    print(
        f"{masked_text(dataset.dir)}: {len(dataset.classes)} classes, {height}x{width} pixels, "
        f"{counts} ({halves})"
    )
    print("\n".join([*dataset.remarks, f"every record is sound; digest {dataset.digest}"]))
    pairs = duplicates(dataset, Path(config.dir) / "cache")
    print(describe(pairs, 5))
    path = output_path(config, page_path(Path(config.dir), dataset.digest))
    with Progress(config.progress) as progress:
        write_images_page(config, overrides, dataset, pairs, path, progress.features)
    print(f"look at them: {path}")


def status(config: Config, overrides: Sequence[str]) -> None:
    """Print the progress of one study, or of all; the process that runs it is not disturbed.

    ``format=json`` prints it for programs: an object for a study, a list for all.
    """
    from flowersweep.report.status import as_dict, line_of, screen, status

    require_format(config, "text", "json")
    if config.study:
        found = status(folder_of_study(config, config.study))
        print(json.dumps(as_dict(found), indent=1) if config.format == "json" else screen(found))
        return
    folders = [folder_of_study(config, name) for name in study_names(config)]
    if config.format == "json":
        print(json.dumps([as_dict(status(folder)) for folder in folders], indent=1))
        return
    print(
        "\n".join(map(line_of, folders))
        or f"no studies in {config.dir}/ yet. Begin one: {RUN} +sweep=NAME{same_store(config)}"
    )


def trials(config: Config, overrides: Sequence[str]) -> None:
    """Print all trials of a study as a table: ``format=text``, ``csv`` or ``json``."""
    from flowersweep.report.study_view import load_study
    from flowersweep.report.trial_table import TABLE_FORMATS, written_trials

    require_format(config, *TABLE_FORMATS)
    study = load_study(folder_of_study(config, config.study or ""))
    print(written_trials(study, config.format or "text"))


def report(config: Config, overrides: Sequence[str]) -> None:
    """Write an HTML page about a study, a comparison of studies, or a run."""
    from flowersweep.workflows.pages import write_pages

    print(f"wrote {write_pages(config)}")


def ui(config: Config, overrides: Sequence[str]) -> None:
    """Serve MLflow's pages, and optuna-dashboard if installed, on 127.0.0.1 until Ctrl-C."""
    from flowersweep.search.optuna_dashboard import dashboard
    from flowersweep.tracking.server import serve_ui

    names = [folder_of_study(config, config.study).name] if config.study else study_names(config)
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
    for name in [config.study] if config.study else study_names(config):
        try:
            _send(config, name)
        except StudyError as error:  # the others are sent
            damaged.append(str(error))
    if damaged:
        raise StudyError("\n".join(damaged))


def _send(config: Config, name: str) -> None:
    from flowersweep.study.journal import lock_holder
    from flowersweep.tracking.followers.sinks import followers, send
    from flowersweep.tracking.shipper import sync as ship
    from flowersweep.workflows.buckets import send_study

    journal = Path(config.dir) / "studies" / name / "journal.jsonl"
    if not journal.exists():
        raise ConfigError(
            f'no study "{name}" in {config.dir}/. '
            + did_you_mean(name, study_names(config), "Studies")
        )
    if not config.study and (running := lock_holder(journal.parent)):
        print(f"{name}: left to {running}; to send it at the same time: sync study={name}")
        return
    if config.sync.to is not None:
        sent = "up to date now" if send_study(config, name) else "was up to date"
        print(f"{name}: {config.sync.to} {sent}")
    if config.tracking.enabled:
        print(f"{name}: {ship(journal, config.tracking, Path(config.dir))} events shipped")
    for sink in followers(journal, config.tracking, Path(config.dir)):
        print(f"{name}: {send(sink)} events in {sink.into}")
