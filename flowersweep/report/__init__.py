"""A study for people: a page that opens anywhere, and a screen of text while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_report(folders: Sequence[Path], path: Path) -> Path:
    """Write the page of one study, or a comparison of several, whole or not at all.

    Raises:
        StudyError: one of the folders holds no study.
    """
    # NumPy, SciPy and Jinja2: `status` does without
    from flowersweep.report import comparison, study_page
    from flowersweep.report.images.location import address_from
    from flowersweep.report.page import render, write_page
    from flowersweep.report.study_view import load_study
    from flowersweep.report.summary import summarise

    studies = [load_study(folder) for folder in folders]
    if len(studies) == 1:
        summary = summarise(studies[0])
        title = f"Study {summary.study.name}"
        start = study_page.introduction(summary, images=address_from(path, studies[0]))
        return write_page(path, render(title, start, study_page.sections(summary)))
    title = f"Studies {', '.join(study.name for study in studies)}"
    return write_page(path, render(title, [], comparison.sections(comparison.compare(studies))))
