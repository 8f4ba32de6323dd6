"""More training images on the command line: from a sweep to a champion, and back."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from flowersweep.__main__ import main
from flowersweep.config.schema import Tracking
from flowersweep.study.records import read_study
from flowersweep.tracking.shipper import run_ids
from tests.conftest import TINY
from tests.data.extra.pictures import number_of, save, write_photographs
from tests.kills import Fork

WORDS = [word for word in TINY if not word.startswith("data.")]
DATA = ["data=folder", "data.dir=photos", "data.extra=[more]", "data.image_size=32"]


@pytest.fixture
def places(project: Path) -> Path:
    """Photographs, and others: six of their own, twins of val and test, and a class too many."""
    write_photographs(project / "photos")
    for n in range(6):
        save(project / "more" / ("lily", "rose")[n % 2] / f"{n}.jpg", 5000 + n)
    save(project / "more" / "rose" / "val.jpg", number_of("val", "rose", 0), (64, 64), 60)
    save(project / "more" / "lily" / "test.jpg", number_of("test", "lily", 0), (64, 64), 60)
    save(project / "more" / "aster" / "a.jpg", 6000)
    return project


def test_a_plan_counts_extra_images(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "+sweep=quick", *DATA, *WORDS, "sweep.n_trials=1"]) == 0
    said = capsys.readouterr().out
    assert "features of 44 views of images" in said  # of 8 + 6 and 8, and their mirror images


@pytest.mark.slow
def test_a_study_with_extra_images_resumes_is_promoted_replayed_and_predicts_without_them(
    places: Path, fork: Fork
) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return fork(places, [*words])

    shown = command("data", *DATA)
    assert shown.returncode == 0, shown.stderr
    assert "train 14, val 8, test 4" in shown.stdout
    assert "data.extra=more: train gets 6 images; left out: 1 (class is not in" in shown.stdout
    sweep = ["+sweep=quick", *DATA, *WORDS, "study=more"]
    done = command(*sweep, "sweep.n_trials=1")
    assert done.returncode == 0, done.stderr
    assert "What is left out: mlruns/cache/verified/left-out-" in done.stderr
    folder = places / "mlruns" / "studies" / "more"
    with (folder / "left_out.csv").open(newline="") as file:
        assert [(row["label"], row["image"]) for row in csv.DictReader(file)] == [
            ("aster", ""),
            ("lily", "lily/test.jpg"),
            ("rose", "rose/val.jpg"),
        ]
    counts = read_study(folder).started.provenance["data"]["counts"]
    assert (counts["train"], counts["extra"]) == (14, 6)
    assert command(*sweep, "sweep.n_trials=2").returncode == 0
    save(places / "more" / "rose" / "new.jpg", 5100)
    refused = command(*sweep, "sweep.n_trials=3")
    assert refused.returncode == 1
    assert "data.digest" in refused.stderr
    (places / "more" / "rose" / "new.jpg").unlink()
    page = command("report", "study=more")
    assert page.returncode == 0, page.stderr
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "lily/test.jpg" in text
    assert "data.extra=more: train gets 6 images" in text
    assert "the images of this study are not in" not in text.lower()
    promoted = command(
        "promote", "study=more", *WORDS, "promotion.seeds=2", "force=true", "reason=test"
    )
    assert promoted.returncode == 0, promoted.stderr
    (places / "more").rename(places / "elsewhere")
    predicted = command("predict", "alias=champion", "output=p.csv", "progress=false")
    assert predicted.returncode == 0, predicted.stderr
    assert len((places / "p.csv").read_text().splitlines()) == 1 + 4
    runs = run_ids(folder / "journal.jsonl", Tracking(), places / "mlruns")
    words = ["replay", f"run={runs.parent}", "progress=false"]
    wrong = command(*words)
    assert wrong.returncode == 1
    assert "data.extra=more" in wrong.stderr
    again = command(*words, "data.extra=[elsewhere]")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "every digit agrees" in again.stdout
