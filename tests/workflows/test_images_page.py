"""``data`` writes one page about the images, whatever they are stored as."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flowersweep.__main__ import main
from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.images import compress
from flowersweep.data.records import encode, write_split
from flowersweep.report import write_report
from flowersweep.util.arrays import write_mapped
from tests.report.made_up import MadeUp, Play
from tests.report.test_page import Parsed

EVIL = "<script>alert(1)</script>"
NAMES = (EVIL, "rose, wild", "花")
SECTIONS = [
    "findings",
    "duplicates",
    "labels",
    "passed-over",
    "classes",
    "sizes",
    "images",
    "reading",
]


def drawing(label: int, number: int) -> np.ndarray:
    """A picture unlike all others."""
    rng = np.random.default_rng(100 * label + number)
    return np.kron(rng.integers(0, 256, (5, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def as_folder(folder: Path) -> list[str]:
    for label, name in enumerate((*NAMES[1:], "<b>bold<b>")):
        for number in range(6):
            path = folder / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(compress(drawing(label, number)))
    return ["data=folder", f"data.dir={folder}"]


def as_table(folder: Path) -> list[str]:
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for label, name in enumerate(NAMES):
            for number in range(6):
                Image.fromarray(drawing(label, number)).save(folder / f"{label}{number}.png")
                writer.writerow([f"{label}{number}.png", name])
    return ["data=csv", f"data.dir={folder}", "data.file=labels.csv"]


def as_records(folder: Path) -> list[str]:
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        records = [
            encode(compress(drawing(label, number)), f"{label}{number}", label)
            for label in range(len(NAMES))
            for number in numbers
        ]
        write_split(str(folder / split), records, (40, 40))
    (folder / "classes.txt").write_text("\n".join(NAMES))
    return ["data=tfrecords", f"data.dir={folder}"]


def as_parquet(folder: Path) -> list[str]:
    folder.mkdir()
    rows = [(label, number) for label in range(len(NAMES)) for number in range(6)]
    table = pa.table(
        {
            "image": [{"bytes": compress(drawing(*row)), "path": None} for row in rows],
            "label": [label for label, _ in rows],
        }
    )
    features = {"label": {"names": [*NAMES], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "train-0.parquet")
    return ["data=huggingface", f"data.dir={folder}"]


def as_drawn(folder: Path) -> list[str]:
    fetch = "{_target_: synthetic, classes: 3, train: 4, val: 2, test: 1, image_size: 32}"
    return ["data=synthetic", f"data.fetch={fetch}"]


def written(words: list[str], capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["data", *words, "progress=false"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    return Path(re.fullmatch("look at them: (.*)", last)[1])  # type: ignore[index]


@pytest.mark.parametrize("store", [as_folder, as_table, as_records, as_parquet, as_drawn])
def test_every_kind_of_images_gets_a_page_that_is_the_same_again(
    project: Path, capsys: pytest.CaptureFixture[str], store: object
) -> None:
    assert callable(store)
    words = store(project / "images")
    path = written(words, capsys)
    assert path.parent == Path("mlruns")
    text = path.read_text()
    page = Parsed(text)
    assert [each["id"] for each in page.all("h2")] == SECTIONS
    assert EVIL not in text
    assert "<b>bold" not in text
    assert len(page.all("img")) == 3  # a sheet a class
    assert all(each["alt"] and each["src"].startswith("data:image/") for each in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len({*ids})
    if store is not as_drawn:
        assert "12" in text
        assert "花" in text
    assert path.read_bytes() == written(words, capsys).read_bytes()


def test_what_is_wrong_stands_first_and_is_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = as_records(project / "images")
    twins = [encode(compress(drawing(0, 0)), "twin", 0), encode(compress(drawing(1, 1)), "odd", 2)]
    others = [encode(compress(drawing(n, 4 + m)), f"{n}{m}", n) for n in range(3) for m in (0, 1)]
    shutil.rmtree(project / "images" / "val")
    write_split(str(project / "images" / "val"), [*others, *twins], (40, 40))
    (project / "images" / ".DS_Store").write_bytes(b"")
    text = written(words, capsys).read_text()
    page = Parsed(text)
    assert "1 pairs of nearly the same picture have two labels" in text
    assert "rose, wild or 花?" in text
    assert "hidden files, and copies of names that macOS makes" in text
    assert len(page.all("img")) == 3 + 2 * 2
    first = [each["class"] for each in page.all("li") if "class" in each][:2]
    assert first[0] == "warning"


def features_of(dataset: Dataset, folder: Path) -> None:
    """Keep features that tell the classes, as a training would."""
    rng = np.random.default_rng(1)
    for name, split in dataset.splits.items():
        assert split.labels is not None
        rows = np.eye(8)[split.labels % 8] * 5 + rng.normal(size=(len(split), 8)) * 0.3
        write_mapped(folder / f"{name}.npy", [rows], shape=rows.shape, dtype=np.float32)


def test_suspicious_labels_are_shown_once_features_are_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = as_records(project / "images")
    text = written(words, capsys).read_text()
    assert f"python -m flowersweep train {' '.join(words)}" in text
    assert "Labels were not checked" in text
    data = Data(name="tfrecords", dir=str(project / "images"))
    dataset = open_dataset(data, Path("mlruns/cache"))
    assert dataset.splits["train"].labels is not None
    true = dataset.splits["train"].labels.copy()
    folder = Path("mlruns/cache/features") / f"{dataset.delivered}-tiny-float32"
    features_of(dataset, folder)
    assert "None of 18 labels is suspicious" in written(words, capsys).read_text()
    dataset.splits["train"].labels[0] = 2  # features of another flower than its label says
    features_of(dataset, folder)
    assert true[0] == 0
    text = written(words, capsys).read_text()
    assert "1 of 18 labels are suspicious" in text
    assert "rather 花?" in text
    (folder / "val.npy").unlink()
    assert "Labels were not checked" in written(words, capsys).read_text()


def test_the_page_of_a_study_leads_there_wherever_the_folder_is_moved(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = as_records(project / "images")
    page = written(words, capsys)
    digest = page.stem.removeprefix("data-")
    plays = [Play({}, 0.3, skill=1.0)]
    for name, known in (("seen", digest), ("unseen", "0" * 16), ("evil", "../../../etc/passwd")):
        study = MadeUp(plays, name=name, digest=known, words=["+sweep=smoothing", *words])
        folder = study.write(Path("mlruns/studies"))
        text = write_report([folder], folder / "report.html").read_text()
        assert (f'href="../../{page.name}"' in text) == (name == "seen")
        assert (f"python -m flowersweep data {' '.join(words)}" in text) == (name != "seen")
    there = Path("mlruns/studies/seen/report.html").parent / f"../../{page.name}"
    assert there.exists()
    elsewhere = write_report([Path("mlruns/studies/seen")], Path("page.html")).read_text()
    assert f'href="mlruns/{page.name}"' in elsewhere


def test_the_page_lies_where_it_is_wanted_and_bad_places_are_refused_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = as_records(project / "images")
    assert main(["data", *words, "output=nowhere/page.html"]) == 1
    assert not Path("mlruns/cache").exists()
    assert "output=nowhere/page.html" in capsys.readouterr().err
    assert written([*words, "output=mine.html"], capsys) == Path("mine.html")
    assert Parsed(Path("mine.html").read_text()).all("h1")


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "images"), [(104, 20), (1000, 5)])
def test_many_classes_of_any_images_stay_below_ten_megabytes(
    project: Path, capsys: pytest.CaptureFixture[str], classes: int, images: int
) -> None:
    """Noise is the worst that a JPEG can hold, and every image of train is in val too."""
    rng, folder = np.random.default_rng(0), project / "images"
    records: dict[str, list[bytes]] = {"train": [], "val": []}
    for label in range(classes):
        for number in range(images):
            noise = compress(rng.integers(0, 256, (64, 64, 3), np.uint8))
            records["train"].append(encode(noise, f"{label}-{number}", label))
            if number == 0:
                records["val"].append(encode(noise, f"{label}", (label + 1) % classes))
    for split, rows in records.items():
        write_split(str(folder / split), rows, (64, 64))
    path = written(["data=tfrecords", f"data.dir={folder}"], capsys)
    assert path.stat().st_size < 10_000_000
    text = path.read_text()
    assert f"{classes} pairs" in text
    assert "60 are shown, those that matter most first" in text
    assert f"Up to {12 if classes < 200 else 4} images of each class" in text
