"""Studies are compared by their best trials: paired where both saw the same held-out images, else not at all."""

from __future__ import annotations

from pathlib import Path

from flowersweep.report.comparison import compare, sections
from flowersweep.report.reading import Reading, reading
from flowersweep.report.write import write
from tests.report.made_up import MadeUp, Play, smoothed


def of_skill(tmp_path: Path, name: str, skill: float, **more: object) -> Reading:
    plays = [Play(smoothed(0.1, 0.01), 0.4, skill=0.2), Play(smoothed(0.2, 0.02), 0.3, skill=skill)]
    return reading(MadeUp(plays, name=name, **more).write(tmp_path))  # type: ignore[arg-type]


def test_the_better_study_is_told_apart_and_an_equal_one_is_not(tmp_path: Path) -> None:
    good, twin, bad = (of_skill(tmp_path, name, skill) for name, skill in (("good", 3.0), ("twin", 3.0), ("bad", 1.0)))
    found = {(a, b): difference for a, b, difference in compare([good, twin, bad]).differences}
    assert (apart := found["good", "bad"]) is not None
    assert apart.resolved
    assert apart.value > 0
    assert (equal := found["good", "twin"]) is not None
    assert not equal.resolved
    text = "".join(section.html for section in sections(compare([good, twin, bad])))
    assert "good is better" in text
    assert "unresolved" in text


def test_other_images_cannot_be_paired(tmp_path: Path) -> None:
    first, other = of_skill(tmp_path, "first", 3.0), of_skill(tmp_path, "other", 1.0, digest="d2")
    reordered, empty = of_skill(tmp_path, "reordered", 1.0, images_seed=5), reading(MadeUp([], name="empty").write(tmp_path))
    assert [difference for *_, difference in compare([first, other]).differences] == [None]
    assert [difference for *_, difference in compare([first, reordered]).differences] == [None]
    assert [difference for *_, difference in compare([first, empty]).differences] == [None]
    assert "not the same held-out images" in sections(compare([first, other]))[1].html


def test_histories_of_one_objective_share_their_scale(tmp_path: Path) -> None:
    first = reading(MadeUp([Play(smoothed(0.1, 0.01), 0.3)], name="first").write(tmp_path))
    second = reading(MadeUp([Play(smoothed(0.1, 0.01), value) for value in (0.4, 3.0)], name="second").write(tmp_path))
    [one, two] = sections(compare([first, second]))[2].charts
    assert one.figure["layout"]["yaxis"] == two.figure["layout"]["yaxis"]
    assert one.figure["layout"]["yaxis"]["range"][0] < one.figure["layout"]["yaxis"]["range"][1]
    assert one.name != two.name


def test_the_page_says_what_differs(tmp_path: Path) -> None:
    folders = [of_skill(tmp_path, name, 3.0, digest=name).folder for name in ("first", "second")]
    text = write(folders, tmp_path / "page.html").read_text()
    assert "data.digest" in text
    assert "train.epochs" not in text.partition("<script")[0]
