"""Predictions of images that belong to no data set, by a real network from a real registry."""

from __future__ import annotations

import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from flowersweep.__main__ import main
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, DataError
from flowersweep.evaluation.calibration import probabilities as softmax
from flowersweep.workflows.predict import predict
from tests.data.decoding import decode_file
from tests.workflows.conftest import DATA, promote
from tests.written_study import Study

CLASSES = ["rose, wild", "=tulip", "Lilie é", "花"]


@pytest.fixture
def asked(study: Study, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A command with a champion whose class names are hard to write, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    promote(study, network, CLASSES)
    return Config(dir=str(study.dir), images="photos")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with five images at several depths, of several kinds, and what is none."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name, mode in {
        "b.jpg": "RGB",
        "a/deep/er/c.PNG": "RGBA",
        "a/é.webp": "RGB",
        "a.gif": "P",
        "z.bmp": "L",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    for name in (".hidden.jpg", "__MACOSX/b.jpg", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("none")
    return folder


def rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_any_depth_gives_a_row_for_each_image_in_the_order_of_paths(
    asked: Config, photos: Path, network: Any
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    written = predict(asked, [], lambda *now: seen.append(now))
    assert (written.images, written.broken) == (5, 0)
    assert seen[-1] == ("images", 5, 5)
    table = rows("predictions.csv")
    assert list(table[0]) == ["file", "label", "class", "probability", "error"]
    files = [row["file"] for row in table]
    assert files == sorted(files)
    assert {Path(file).name for file in files} == {"b.jpg", "c.PNG", "é.webp", "a.gif", "z.bmp"}
    grey = next(row for row in table if row["file"].endswith("z.bmp"))
    pixels = tf.image.resize(
        np.array(Image.open("photos/z.bmp").convert("RGB")), (32, 32), antialias=True
    )
    (chances,) = softmax(network.predict(np.round(pixels)[np.newaxis], verbose=0))
    assert int(grey["label"]) == chances.argmax()
    assert grey["class"].removeprefix("'") == CLASSES[chances.argmax()]
    assert float(grey["probability"]) == pytest.approx(chances.max(), rel=1e-4)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_images_are_resized_as_in_training(
    resize: str, study: Study, photos: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    promote(study, network, CLASSES, replace(DATA, resize=resize))
    predict(Config(dir=str(study.dir), images="photos", probabilities=True), [])
    for row in rows("predictions.csv"):
        pixels = decode_file(row["file"], (32, 32), resize).astype(np.float32)[np.newaxis]
        expected = softmax(network.predict(pixels, verbose=0))[0]
        actual = [float(row[f"probability of {name}"]) for name in CLASSES]
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_every_class_and_the_best_ones_have_columns(asked: Config, photos: Path) -> None:
    predict(replace(asked, probabilities=True, top=3), [])
    for row in rows("predictions.csv"):
        every = [float(row[f"probability of {name}"]) for name in CLASSES]
        assert sum(every) == pytest.approx(1, abs=1e-4)
        best = [float(row[name]) for name in ("probability", "probability_2", "probability_3")]
        assert best == sorted(every, reverse=True)[:3]
        assert every[int(row["label_2"])] == best[1]
    predict(replace(asked, top=9), [])  # of four classes
    assert "probability_4" in (table := rows("predictions.csv"))[0]
    assert "probability_5" not in table[0]


def test_json_says_the_same(asked: Config, photos: Path) -> None:
    predict(replace(asked, format="json", probabilities=True, top=2), [])
    predict(asked, [])
    documents = json.loads(Path("predictions.json").read_text(encoding="utf-8"))
    for document, row in zip(documents, rows("predictions.csv"), strict=True):
        assert document["file"] == row["file"]
        assert document["class"] == row["class"].removeprefix("'")
        assert str(document["probability"]) == row["probability"]
        assert document["top"][0]["label"] == document["label"] == int(row["label"])
        assert list(document["probabilities"]) == CLASSES


def test_a_submission_has_ids_without_endings(asked: Config, photos: Path) -> None:
    predict(replace(asked, format="submission"), [])
    ids = [row["id"] for row in rows("submission.csv")]
    assert sorted(ids) == ["a", "a/deep/er/c", "a/é", "b", "z"]
    with pytest.raises(ConfigError, match="format=submission has one label an image"):
        predict(replace(asked, format="submission", top=2), [])
    (photos / "b.jpeg").write_bytes((photos / "b.jpg").read_bytes())
    with pytest.raises(DataError, match="1 id would name several images, first 'b'"):
        predict(replace(asked, format="submission"), [])


@pytest.mark.parametrize("code", [0, 1])
def test_a_broken_image_is_a_row_with_its_error(
    code: int, asked: Config, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    (photos / "empty.png").touch()
    (photos / "text.jpg").write_text("no image")
    words = ["predict", "images=photos", f"dir={asked.dir}", "progress=false"]
    assert main([*words, *["on_error=fail"] * code]) == code
    assert "3 could not be read, first photos/broken.jpg: " in capsys.readouterr().out
    table = {row["file"]: row for row in rows("predictions.csv")}
    assert len(table) == 8
    broken = {file for file, row in table.items() if row["error"]}
    assert broken == {"photos/broken.jpg", "photos/empty.png", "photos/text.jpg"}
    assert all(table[file]["label"] == "" for file in broken)
    assert "not one of JPEG" in table["photos/text.jpg"]["error"]
    assert all(row["class"] for file, row in table.items() if file not in broken)


def test_a_table_names_images_in_its_own_order(asked: Config, photos: Path) -> None:
    lines = ["label;Image Path", "x;z.bmp", "y;gone.jpg", "x;a/é", "z;b.jpg"]
    (photos / "list.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    predict(replace(asked, images="photos/list.csv"), [])
    table = rows("predictions.csv")
    assert [row["file"] for row in table] == ["z.bmp", "gone.jpg", "a/é", "b.jpg"]
    assert [bool(row["error"]) for row in table] == [False, True, False, False]
    (photos / "bare.csv").write_text("b.jpg\nz.bmp\n")
    predict(replace(asked, images="photos/bare.csv"), [])
    assert [row["file"] for row in rows("predictions.csv")] == ["b.jpg", "z.bmp"]


def test_the_column_of_a_table_and_the_folder_of_its_images_may_be_named(
    asked: Config, photos: Path
) -> None:
    Path("list.csv").write_text("id,Photo\n7,b\n9,z.bmp\n")
    table = replace(asked, images="list.csv", format="submission")
    with pytest.raises(DataError, match=r"none of its images \(2\) is there, first '7'"):
        predict(table, [])
    columns = {"image": "Photo"}
    named = replace(table, data=replace(table.data, columns=columns, dir="photos"))
    predict(named, ["images=list.csv", "data.columns.image=Photo", "data.dir=photos"])
    assert [row["id"] for row in rows("submission.csv")] == ["7", "9"]
    columns["image"] = "photo"
    with pytest.raises(DataError, match=r'has no such column.*Did you mean "Photo"'):
        predict(named, ["data.columns.image=photo", "data.dir=photos"])
    with pytest.raises(DataError, match=r"and so does data\.dir=photos"):
        predict(replace(named, images="photos"), ["data.dir=photos"])


def test_a_usual_column_that_names_no_file_is_no_column_of_images(
    asked: Config, photos: Path
) -> None:
    Path("list.csv").write_text("image_id,name\n17,photos/b.jpg\n")
    predict(replace(asked, images="list.csv"), [])
    assert [row["file"] for row in rows("predictions.csv")] == ["photos/b.jpg"]


def test_links_in_a_folder_are_followed(asked: Config, photos: Path) -> None:
    Path("farm").mkdir()
    Path("farm/one.jpg").symlink_to(photos / "b.jpg")
    Path("farm/more").symlink_to(photos)
    Path("farm/more/again").symlink_to("..")
    Path("farm/gone.jpg").symlink_to("nothing")
    written = predict(replace(asked, images="farm"), [])
    assert (written.images, written.broken) == (7, 1)
    assert "is a link to nothing, which is not there" in written.first_error


def test_rows_of_parquet_files_are_images(asked: Config, photos: Path) -> None:
    images = [{"bytes": (photos / "b.jpg").read_bytes(), "path": None}, {"bytes": b"x"}, None]
    Path("hf/data").mkdir(parents=True)
    pq.write_table(pa.table({"photo": images, "id": [7, 8, 9]}), "hf/data/test.parquet")
    with pytest.raises(DataError, match="has no column of images"):
        predict(replace(asked, images="hf"), [])
    data = replace(asked.data, columns={"image": "photo"})
    written = predict(replace(asked, images="hf", data=data), ["data.columns.image=photo"])
    assert (written.images, written.broken) == (3, 2)
    assert [row["file"] for row in rows("predictions.csv")] == ["7", "8", "9"]


def test_tfrecords_of_another_layout_are_read(asked: Config, photos: Path) -> None:
    def record(name: str | None, image: bytes) -> bytes:
        feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))}
        if name is not None:
            text = tf.train.BytesList(value=[name.encode()])
            feature["image/filename"] = tf.train.Feature(bytes_list=text)
        return bytes(
            tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
        )

    jpeg = (photos / "b.jpg").read_bytes()
    folder = photos.parent / "records"
    folder.mkdir()
    plain = folder / "flowers-test.tfrecord-00000-of-00002"
    with tf.io.TFRecordWriter(str(plain)) as file:
        for raw in (record("one.jpg", jpeg), record(None, jpeg), record("three", b"none")):
            file.write(raw)
    packed = folder / "flowers-test.tfrecord-00001-of-00002"
    packed.write_bytes(gzip.compress(plain.read_bytes())[:-40])  # cut off
    written = predict(replace(asked, images="records"), [])
    table = rows("predictions.csv")
    assert [row["file"] for row in table[:3]] == ["one.jpg", f"records/{plain.name}#1", "three"]
    assert [bool(row["error"]) for row in table[:3]] == [False, False, True]
    assert "truncated or corrupt from here on" in table[-1]["error"]
    assert written.images == len(table)


@pytest.mark.parametrize("word", ["photos/*.jpg", "photos/**/b.jp*", "photos/b.jpg"])
def test_a_glob_or_a_file_names_images(word: str, asked: Config, photos: Path) -> None:
    predict(replace(asked, images=word), [])
    assert [row["file"] for row in rows("predictions.csv")] == ["photos/b.jpg"]


def test_brackets_in_the_name_of_a_folder_are_no_pattern(asked: Config, photos: Path) -> None:
    photos.rename("photos [1]")
    for word in ("photos [1]", "photos [1]/*.jpg", "photos [1]/b.jpg"):
        predict(replace(asked, images=word), [])
        assert "photos [1]/b.jpg" in [row["file"] for row in rows("predictions.csv")]


def test_a_file_whose_name_is_no_utf_8_has_its_row(asked: Config, photos: Path) -> None:
    os.rename(photos / "b.jpg", os.fsencode(photos) + b"/\xff=.jpg")
    for format in ("csv", "json"):
        predict(replace(asked, format=format), [])
        assert "\\udcff=.jpg" in Path(f"predictions.{format}").read_text(encoding="utf-8")


def test_what_is_no_image_is_refused_before_a_model_is_sought(
    mlruns: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no model in this store: only the images can be what is wrong."""
    monkeypatch.chdir(photos.parent)
    (photos.parent / "empty").mkdir()
    (photos / "list.csv").write_text("image\ngone.jpg\n")
    (photos / "odd.csv").write_text("a,b\n1,2\n")
    (photos / "void.csv").touch()
    for word, message in {
        "gone": "there is no such file or folder",
        "photos/*.tiff": "no file matches",
        "empty": "no image in it. It holds no file",
        "photos/*.txt": "no image in it. It holds notes.txt",
        "photos/list.csv": "none of its images (1) is there, first 'gone.jpg'",
        "photos/odd.csv": "has no column image. Name it: data.columns.image=NAME. Columns: a, b",
        "photos/void.csv": "is empty",
        "s3://bucket/photos": "must name files of this machine",
        "": "must name files of this machine",
    }.items():
        with pytest.raises(DataError, match=r"images|photos") as refused:
            predict(Config(dir=str(mlruns), images=word), [])
        assert message in str(refused.value)
    config = Config(dir=str(mlruns), images="photos")
    with pytest.raises(ConfigError, match="and so does data"):
        predict(config, ["images=photos", "data=synthetic"])
    with pytest.raises(
        ConfigError,
        match=r'predict writes: csv, json, pseudo_labels, submission\. Did you mean "csv"',
    ):
        predict(replace(config, format="cvs"), [])


def test_a_command_that_is_stopped_leaves_no_file(asked: Config, photos: Path) -> None:
    Path("predictions.csv").write_text("of yesterday")

    def stop(what: str, done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(asked, [], stop)
    assert Path("predictions.csv").read_text() == "of yesterday"
    assert not [*Path().glob(".predictions*")]
