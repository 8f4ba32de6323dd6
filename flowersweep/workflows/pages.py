"""Pages about studies and runs: where they are written, and when they go to MLflow."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

from flowersweep.config.schema import Config
from flowersweep.util.output import require_output
from flowersweep.workflows.studies import folder_of_study

log = logging.getLogger("flowersweep.cli")  # the console shows messages of this name


def write_pages(config: Config) -> Path:
    """Write the page of a study, of a comparison of ``studies``, or of a ``run``; return its path.

    Raises:
        ConfigError: There is no such study, or ``output`` is no place for a page.
        StudyError: A journal is damaged, or holds no study yet.
    """
    from flowersweep.report import write_report

    if config.run:
        return _write_page_of_run(config)
    names = config.studies or [config.study or ""]
    folders = [folder_of_study(config, name) for name in names]
    usual = (
        folders[0] / "report.html"
        if len(folders) == 1
        else Path(config.dir) / f"report-{'-'.join(names)}.html"
    )
    return write_report(folders, output_path(config, usual))


def _write_page_of_run(config: Config) -> Path:
    """Write the page of one run from its record in MLflow."""
    from flowersweep.report.run_page import write_run_report
    from flowersweep.tracking.recorded import load_run

    dir = Path(config.dir)
    path = output_path(config, dir / f"report-{config.run}.html")
    with TemporaryDirectory(prefix="flowersweep-") as scratch:
        return write_run_report(
            load_run(str(config.run), config.tracking, dir, Path(scratch)), path, dir / "cache"
        )


def output_path(config: Config, usual: Path) -> Path:
    """Return where a page goes: ``output``, or its usual place.

    Raises:
        ConfigError: ``output`` is no place for a page.
    """
    path = Path(config.output or usual)
    return require_output(path, None if path.resolve() == usual.resolve() else Path(config.dir))


def write_page_of_sweep(config: Config, *, sent: bool = False) -> Path | None:
    """Write a sweep's page; upload it too if MLflow has everything else (``sent``).

    Errors are logged only: a broken report must not fail a finished sweep.

    Returns:
        The page; None of a single training, which needs none of its own, and after an error.
    """
    from flowersweep.report import write_report
    from flowersweep.report.study_view import load_study
    from flowersweep.report.summary import worst_mistakes

    page = None
    try:
        folder = folder_of_study(config, str(config.study))
        # A single training needs no page of its own: MLflow's page and these pictures do.
        worst_mistakes(load_study(folder), named=config.data.dir)
        if config.sweep.space:
            page = write_report([folder], folder / "report.html")
        if sent:
            _upload(config, folder)
    except Exception as error:
        log.warning(
            "no report was written (%s: %s); later:   report study=%s",
            type(error).__name__,
            error,
            config.study,
        )
        log.debug("the report", exc_info=True)
    return page


def _upload(config: Config, folder: Path) -> None:
    """Upload the page to the study's MLflow run, and pictures of mistakes to the trials' runs."""
    from flowersweep.tracking.recorded import attach_files
    from flowersweep.tracking.shipper import run_ids

    runs = run_ids(folder / "journal.jsonl", config.tracking, Path(config.dir))
    files = {
        run: [*folder.glob(f"trials/{number}/mistakes.*")] for number, run in runs.trials.items()
    }
    pages = {runs.parent: [*folder.glob("report.html")]} if runs.parent else {}
    attach_files(
        {run: paths for run, paths in {**files, **pages}.items() if paths},
        config.tracking,
        Path(config.dir),
    )
