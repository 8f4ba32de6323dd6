"""Studies are compared by their best trials: paired where both saw the same held-out images, else
not at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flowersweep.evaluation.statistics import wilson
from flowersweep.report import write_report
from flowersweep.report.comparison import compare, sections
from flowersweep.report.page import render
from flowersweep.report.study_view import StudyView, load_study
from tests.report.made_up import MadeUp, Play, altered, smoothed


def of_skill(tmp_path: Path, name: str, skill: float, **more: object) -> StudyView:
    plays = [Play(smoothed(0.1, 0.01), 0.4, skill=0.2), Play(smoothed(0.2, 0.02), 0.3, skill=skill)]
    return load_study(MadeUp(plays, name=name, **more).write(tmp_path))  # type: ignore[arg-type]


def test_the_better_study_is_told_apart_and_an_equal_one_is_not(tmp_path: Path) -> None:
    good, twin, bad = (
        of_skill(tmp_path, name, skill)
        for name, skill in (("good", 3.0), ("twin", 3.0), ("bad", 1.0))
    )
    found = {(a, b): difference for a, b, difference in compare([good, twin, bad]).differences}
    assert (apart := found["good", "bad"]) is not None
    assert apart.resolved
    assert apart.value > 0
    assert (equal := found["good", "twin"]) is not None
    assert not equal.resolved
    text = render("", [], sections(compare([good, twin, bad])))
    assert "good is better" in text
    assert "unresolved" in text


def test_other_images_cannot_be_paired(tmp_path: Path) -> None:
    first, other = of_skill(tmp_path, "first", 3.0), of_skill(tmp_path, "other", 1.0, digest="d2")
    reordered, empty = (
        of_skill(tmp_path, "reordered", 1.0, images_seed=5),
        load_study(MadeUp([], name="empty").write(tmp_path)),
    )
    assert [difference for *_, difference in compare([first, other]).differences] == [None]
    assert [difference for *_, difference in compare([first, reordered]).differences] == [None]
    assert [difference for *_, difference in compare([first, empty]).differences] == [None]
    assert "not the same held-out images" in render("", [], sections(compare([first, other]))[1:2])


def test_studies_with_and_without_extra_images_are_paired(tmp_path: Path) -> None:
    plain, more = of_skill(tmp_path, "plain", 3.0), of_skill(tmp_path, "more", 1.0, digest="d2")
    data = {**more.started.provenance["data"], "held_out_digest": "d1"}
    [(*_, difference)] = compare([plain, altered(more, provenance={"data": data})]).differences
    assert difference is not None


def test_histories_of_one_objective_share_their_scale(tmp_path: Path) -> None:
    first = load_study(MadeUp([Play(smoothed(0.1, 0.01), 0.3)], name="first").write(tmp_path))
    second = load_study(
        MadeUp([Play(smoothed(0.1, 0.01), value) for value in (0.4, 3.0)], name="second").write(
            tmp_path
        )
    )
    [one, two] = sections(compare([first, second]))[3].charts
    assert one.figure["layout"]["yaxis"] == two.figure["layout"]["yaxis"]
    assert one.figure["layout"]["yaxis"]["range"][0] < one.figure["layout"]["yaxis"]["range"][1]
    assert one.name != two.name


def test_the_page_says_what_differs(tmp_path: Path) -> None:
    folders = [of_skill(tmp_path, name, 3.0, digest=name).folder for name in ("first", "second")]
    text = write_report(folders, tmp_path / "page.html").read_text()
    assert "data.digest" in text
    assert "train.epochs" not in text.partition("<script")[0]


def test_each_best_has_its_accuracy_with_wilsons_interval_and_each_pair_mcnemars_test(
    tmp_path: Path,
) -> None:
    good, bad = (of_skill(tmp_path, name, skill) for name, skill in (("good", 3.0), ("bad", 1.0)))
    found = compare([good, bad])
    [test] = found.tests
    kept = [entry.predictions for entry in found.entries]
    assert kept[0] is not None
    assert kept[1] is not None
    right = [each.holdout.argmax(axis=1) == each.holdout_labels for each in kept]
    assert test is not None
    assert (test.only_first, test.only_second) == (
        int((right[0] & ~right[1]).sum()),
        int((right[1] & ~right[0]).sum()),
    )
    html = render("", [], sections(found)[:2])
    assert all(
        f"{number:.4f}" in html for number in (right[0].mean(), *wilson(int(right[0].sum()), 200))
    )
    assert f"{test.mid_p:.4g}" in html


def trained(tmp_path: Path, name: str, values: list[float], rate: float) -> StudyView:
    """A study of the same smoothings as another, at a rate and with results of its own."""
    plays = [Play(smoothed(n / 100, rate), value) for n, value in enumerate(values)]
    return load_study(MadeUp(plays, name=name).write(tmp_path))


def test_the_order_of_shared_configurations_is_compared_whatever_the_training(
    tmp_path: Path,
) -> None:
    cheap = trained(tmp_path, "cheap", [1, 2, 3, 4, 5, 6], 0.01)
    costly, opposite = (
        trained(tmp_path, "costly", [0.1, 0.2, 0.3, 0.5, 0.4], 0.001),
        trained(tmp_path, "opposite", [3, 2, 1, 0], 0.001),
    )
    found = {(each.first, each.second): each for each in compare([cheap, costly, opposite]).ranks}
    assert found["cheap", "costly"].shared == 5
    assert (agreed := found["cheap", "costly"].correlation) is not None
    assert agreed.value == pytest.approx(0.9)
    assert agreed.low < 0.9 < agreed.high < 1
    assert (turned := found["cheap", "opposite"].correlation) is not None
    assert turned.value == pytest.approx(-1)
    assert "0.9000" in render("", [], sections(compare([cheap, costly]))[2:3])


def test_too_few_shared_configurations_are_counted_and_no_more(tmp_path: Path) -> None:
    one, other = (
        trained(tmp_path, "one", [1, 2, 3], 0.01),
        trained(tmp_path, "other", [1, 2, 3, 4], 0.01),
    )
    [found] = compare([one, other]).ranks
    assert (found.shared, found.correlation) == (3, None)
