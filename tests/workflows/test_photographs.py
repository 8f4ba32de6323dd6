"""From a folder of photographs to a champion and its predictions, on the command line alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY, Command

WORDS = [word for word in TINY if not word.startswith("data.")]
COLOURS = {"rose, red": (200, 30, 30), "Öl grün": (20, 180, 60), "花": (240, 220, 60)}


def draw(folder: Path, images: int) -> None:
    """Write photographs of mixed sizes, modes and formats, a colour a class."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            size = (int(rng.integers(30, 90)), int(rng.integers(30, 90)), 3)
            noise = rng.normal(0, 20, size)
            picture = Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))
            kind = ("jpg", "png", "webp", "bmp")[number % 4]
            exif = picture.getexif()
            exif[0x0112] = 1 + number % 8
            picture.save(folder / name / f"{number}.{kind}", exif=exif)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["crop"])
def test_photographs_in_folders_become_a_champion_that_predicts(
    project: Path, command: Command, resize: str
) -> None:
    draw(project / "photos", 12)
    data = ["data=folder", "data.dir=photos", "data.image_size=32", f"data.resize={resize}"]
    swept = command("+sweep=smoothing", *data, "data.test_fraction=.2", "sweep.n_trials=2", *WORDS)
    assert swept.returncode == 0, swept.stderr
    promoted = command("promote", "study=smoothing", *WORDS, "promotion.seeds=2")
    assert promoted.returncode in (0, 3), promoted.stderr
    forced = command("promote", "study=smoothing", "force=true", "reason=test", *WORDS)
    assert forced.returncode == 0, forced.stderr
    predicted = command("predict", "alias=champion", "output=predictions.csv", "progress=false")
    assert predicted.returncode == 0, predicted.stderr
    text = (project / "predictions.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 6
    assert all(row["id"].partition("/")[0] in COLOURS for row in rows)
