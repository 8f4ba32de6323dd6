"""From the folders of studies to one page in a file: about one study, or comparing several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowersweep.report import comparison, sections
from flowersweep.report.facts import facts
from flowersweep.report.page import page
from flowersweep.report.reading import reading


def write(folders: Sequence[Path], path: Path) -> Path:
    """Write the page of the studies in ``folders``, whole or not at all. Raises StudyError if one of them holds none."""
    studies = [reading(folder) for folder in folders]
    if len(studies) == 1:
        found = facts(studies[0])
        text = page(f"Study {found.study.name}", sections.introduction(found), sections.sections(found))
    else:
        text = page(f"Studies {', '.join(study.name for study in studies)}", "", comparison.sections(comparison.compare(studies)))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path
