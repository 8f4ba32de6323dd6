"""Every chart is one that plotly accepts, and shows the trials that it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from optuna.distributions import CategoricalDistribution

from flowersweep.report.charts import parameters, search, training
from flowersweep.report.charts.plotting import STATES, Chart
from flowersweep.report.study_page import sections
from flowersweep.report.study_view import StudyView, load_study
from flowersweep.report.summary import StudySummary, summarise
from flowersweep.study.records import read_study
from tests.report.made_up import SPACE, MadeUp, Play, focal, of_all_kinds, smoothed


def traces(chart: Chart | None) -> dict[str, dict[str, Any]]:
    assert chart is not None
    return {trace.get("name", trace["type"]): trace for trace in chart.figure["data"]}


def drawn(found: StudySummary) -> Iterable[Chart]:
    return (chart for section in sections(found) for chart in section.charts)


def many(tmp_path: Path) -> StudySummary:
    """Enough trials for importances and a map."""
    plays = [
        Play(
            (smoothed if n % 2 else focal)(0.5 + n / 100, 0.001 * (n + 1)),
            1.5 - n / 20,
            curve=(2.0,),
        )
        for n in range(24)
    ]
    return summarise(load_study(MadeUp(plays, name="many").write(tmp_path)))


def test_plotly_accepts_every_chart(found: StudySummary, tmp_path: Path) -> None:
    names = set()
    for chart in [*drawn(found), *drawn(many(tmp_path))]:
        go.Figure(chart.figure)  # raises for a property or value that does not exist
        assert chart.label
        names.add(chart.name.partition("-")[0])
    assert names == {
        "history",
        "importance",
        "slice",
        "parallel",
        "contour",
        "curves",
        "timeline",
        "gap",
        "confusion",
        "calibration",
    }


def test_plotly_refuses_what_does_not_exist(found: StudySummary) -> None:
    chart = next(iter(drawn(found)))
    with pytest.raises(ValueError, match="colour"):
        go.Figure({**chart.figure, "layout": {"colour": "red"}})


def test_the_history_marks_trials_by_how_they_ended_and_the_best_so_far(
    found: StudySummary,
) -> None:
    history = traces(search.history(found.study, found.noise))
    assert {name: trace["x"] for name, trace in history.items() if name in STATES} == {
        "pruned": [1],
        "failed": [2],
        "complete": [0, 3, 4],
    }
    assert (history["best so far"]["x"], history["best so far"]["y"]) == (
        [0, 3, 4, 5],
        [0.31, 0.3, 0.3, 0.3],
    )
    assert history["best"]["x"] == [3]
    assert found.noise is not None
    assert max(history["within chance"]["y"]) == pytest.approx(0.3 + 2 * found.noise.error)


def test_the_band_lies_on_the_worse_side_of_a_maximum(tmp_path: Path) -> None:
    plays = [Play(smoothed(0.1, 0.01), value, skill=3 * value) for value in (0.8, 0.9)]
    found = summarise(load_study(MadeUp(plays, objective="tune/macro_f1").write(tmp_path)))
    assert max(traces(search.history(found.study, found.noise))["within chance"]["y"]) == 0.9


def test_a_slice_shows_only_the_trials_in_which_its_parameter_was_active(study: StudyView) -> None:
    found = {chart.name: chart for chart in search.slices(study)}
    assert traces(found["slice-gamma"])["complete"]["x"] == [1.0]
    assert traces(found["slice-gamma"])["pruned"]["x"] == [2.0]
    assert found["slice-gamma"].note == "Only where loss is focal."
    assert found["slice-learning_rate"].figure["layout"]["xaxis"]["type"] == "log"
    assert found["slice-loss"].figure["layout"]["xaxis"]["type"] == "category"


def test_a_line_skips_the_parameters_that_were_not_active(study: StudyView) -> None:
    best = traces(parameters.parallel(study))["best tenth"]
    assert best["x"] == [0, 1, 3, 4, None]
    assert best["y"][:2] == [0.0, pytest.approx(0.4)]
    assert best["y"][3] == 1.0


def test_a_choice_outside_the_space_breaks_no_chart(tmp_path: Path) -> None:
    space = {
        **SPACE,
        "loss": {"path": "loss", "values": CategoricalDistribution(["focal", "other"])},
    }
    plays = [Play(smoothed(0.1, 0.01), 0.3), Play(focal(1, 0.01), 0.4)]
    assert parameters.parallel(load_study(MadeUp(plays, space=space).write(tmp_path))) is not None


def test_curves_show_every_epoch_of_every_trial_and_the_best_apart(study: StudyView) -> None:
    found = traces(training.curves(study))
    assert found["best, trial 3"]["y"] == [0.8, 0.5, 0.3, None]
    assert found["complete"]["y"] == [0.9, 0.5, 0.31, None, 1.0, 0.6, 0.5, None]
    assert found["pruned"]["opacity"] < found["complete"]["opacity"]


def test_of_very_many_curves_some_of_each_kind_are_drawn(tmp_path: Path) -> None:
    plays = [
        Play(
            smoothed(0.1, 0.01), 0.3 + n / 1000, "pruned" if n % 2 else "complete", curve=(0.5, 0.4)
        )
        for n in range(800)
    ]
    chart = training.curves(load_study(MadeUp(plays).write(tmp_path)))
    found = traces(chart)
    assert chart is not None
    assert "The best 150" in chart.note
    assert 150 * 3 <= len(found["complete"]["x"]) < 400 * 3
    assert len(found["pruned"]["x"]) > 50 * 3


def test_the_timeline_of_several_workers_has_a_row_a_worker(study: StudyView) -> None:
    record = read_study(study.folder)
    for trial in record.trials:
        trial.worker = trial.number % 2 + 1 if trial.number else None
    assert traces(training.timeline(replace(study, record=record)))["complete"]["y"] == [0, 2, 1]


def test_the_timeline_has_a_row_a_trial(study: StudyView) -> None:
    assert traces(training.timeline(study))["complete"]["y"] == [0, 3, 4]


def test_a_resumed_study_says_where_it_was_gone_on_with(tmp_path: Path) -> None:
    chart = training.timeline(
        load_study(of_all_kinds(pauses={2: 900.0, 4: 50.0}, wanted=6).write(tmp_path))
    )
    assert chart is not None
    assert [line["x0"] for line in chart.figure["layout"]["shapes"]] == [19, 38]


def test_the_map_covers_both_ranges_and_is_empty_far_from_trials(tmp_path: Path) -> None:
    found = traces(parameters.contour(many(tmp_path)))["contour"]
    assert len(found["z"]) == len(found["y"]) == 30
    cells = [cell for row in found["z"] for cell in row]
    assert None in cells
    known = [cell for cell in cells if cell is not None]
    assert known
    assert 0.3 < min(known) < max(known) < 1.6


def test_of_very_many_trials_the_best_and_an_even_choice_are_drawn_and_it_is_said(
    tmp_path: Path,
) -> None:
    plays = [
        Play(smoothed(0.1, 0.01), 1 - (n * 7919 % 3000) / 3000, curve=(0.9,)) for n in range(3000)
    ]
    study = load_study(MadeUp(plays).write(tmp_path))
    drawn = {record.number for record in study.drawn}
    assert len(drawn) <= 1001
    assert {record.number for record in study.complete[:300]} | {2999} <= drawn
    assert max(b - a for a, b in pairwise(sorted(drawn))) <= 8
    chart = search.history(study, None)
    assert f"{len(drawn)} of 3000 trials are drawn" in chart.note
    assert "of 3000 trials" in chart.label
    points = traces(chart)
    assert len(points["complete"]["x"]) == len(drawn)
    assert points["best so far"]["y"][-1] == study.complete[0].value
    assert len(points["best so far"]["y"]) < 100
    for each in (
        training.timeline(study),
        parameters.parallel(study),
        *search.slices(study),
    ):
        assert each is not None
        assert sum(len(trace["x"]) for trace in each.figure["data"]) < 7 * 1001
