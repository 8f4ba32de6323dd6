"""One made-up study with trials of every kind, read once for all tests that only look."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import StudySummary, summarise
from tests.report.made_up import of_all_kinds


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_all_kinds().write(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def study(folder: Path) -> StudyView:
    return load_study(folder)


@pytest.fixture(scope="session")
def found(study: StudyView) -> StudySummary:
    return summarise(study)
