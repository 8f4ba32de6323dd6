"""Where the page about a data set lies, and how the page of a study leads to it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from flowersweep.report.study_view import StudyView


def page_path(dir: Path, digest: str) -> Path:
    """Return the usual file of the page about the images with a digest, in the project's folder."""
    return dir / f"data-{digest}.html"


def address_from(page: Path, study: StudyView) -> str | None:
    """Return the address, relative to a ``page``, of the page about a study's images; None if there
    is none.
    """
    digest = str(study.started.provenance.get("data", {}).get("digest"))
    if not re.fullmatch("[0-9a-f]{16}", digest):  # the journal may be somebody else's
        return None
    there = page_path(study.folder.resolve().parents[1], digest)
    if not there.exists():
        return None
    return quote(Path(os.path.relpath(there, page.resolve().parent)).as_posix())
