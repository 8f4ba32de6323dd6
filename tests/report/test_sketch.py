"""A study in a notebook: its trials and their history without scripts, its charts by name."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from flowersweep.errors import StudyError
from flowersweep.report.charts.search import history
from flowersweep.report.charts.sketch import sketch
from flowersweep.report.study_view import load_study
from flowersweep.session.comparison import compare_studies
from flowersweep.session.study import Study
from tests.report.made_up import of_all_kinds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_all_kinds(name="first").write(tmp_path_factory.mktemp("studies"))


def test_the_history_is_drawn_with_a_point_for_each_trial(folder: Path) -> None:
    study = load_study(folder)
    picture = ElementTree.fromstring(sketch(history(study, None)))
    points = picture.findall(".//{http://www.w3.org/2000/svg}circle")
    valued = [r for r in study.records if r.value is not None or r.state == "failed"]
    assert len(points) == len(valued) + 1  # and the best, on top
    width, height = map(float, picture.attrib["viewBox"].split()[2:])
    assert all(0 <= float(p.attrib["cx"]) <= width for p in points)
    assert all(0 <= float(p.attrib["cy"]) <= height for p in points)


def test_a_study_of_no_value_has_no_picture_and_is_shown(tmp_path: Path) -> None:
    made = of_all_kinds(name="empty")
    made.plays = [play for play in made.plays if play.state is None][:1]
    assert "<table" in Study(made.write(tmp_path))._repr_html_()


def test_trials_are_a_table_of_parameters_metrics_and_states(folder: Path) -> None:
    study, records = Study(folder), load_study(folder).records
    table = study.trials
    assert list(table.index) == [record.number for record in records]
    assert set(table["state"]) == {record.state for record in records}
    for record in records:
        row = table.loc[record.number]
        assert all(row[name] == value for name, value in record.params.items())
        assert all(row[name] == value for name, value in record.metrics.items())
    assert study.best is not None
    assert table.loc[study.best.number, "value"] == study.best.value
    assert "<svg" in study._repr_html_()
    assert 'study "first"' in repr(study)


def test_a_chart_is_a_figure_of_plotly_by_its_name(folder: Path) -> None:
    study = Study(folder)
    assert {"history", "curves", "timeline"} <= {*study.figures}
    assert study.figure("history").data
    with pytest.raises(StudyError, match=r"no figure .histroy.*Did you mean .history"):
        study.figure("histroy")


def test_studies_are_compared_in_tables(tmp_path: Path) -> None:
    folders = [of_all_kinds(name=name).write(tmp_path) for name in ("first", "second")]
    compared = compare_studies(folders)
    assert list(compared.studies.index) == ["first", "second"]
    assert compared.differences.loc["first", "minus study"] == "second"
    assert "<table" in compared._repr_html_()
