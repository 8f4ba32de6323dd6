"""Data sets by their name in a library's catalogue, written and found by the real libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.images import recorded_or_named, require_own_images
from flowersweep.config.schema import Data
from flowersweep.data.dataset import open_dataset
from flowersweep.data.downloads import hubs
from flowersweep.data.pipeline import in_order
from flowersweep.errors import ConfigError, DataError
from tests.data.tiny_records import jpeg

NAMES = ["lily", "rose"]
HUGGINGFACE = {"_target_": "huggingface"}


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets")


@pytest.fixture
def tfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    library = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(library.core.constants, "DATA_DIR", str(tmp_path / "prepared"))
    return library


def test_parquet_that_datasets_wrote_is_found_as_it_finds_it(datasets: Any, tmp_path: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    folder = tmp_path / "flowers"
    for split, count in {"train": 6, "validation": 4}.items():
        rows = {"image": [{"bytes": jpeg(20 * n), "path": None} for n in range(count)]}
        rows["label"] = [n % 2 for n in range(count)]
        written = datasets.Dataset.from_dict(rows, features=features)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        written.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    assert hubs.huggingface(tmp_path, name=str(folder)) == str(folder / "data")
    data = Data(name="huggingface", format="huggingface", path=str(folder), fetch=HUGGINGFACE)
    dataset = open_dataset(data, tmp_path / "cache")
    assert dataset.classes == ("lily", "rose")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "val": 4}
    (images,) = in_order(dataset.splits["val"], (8, 8), 8)
    assert np.abs(images[:, 0, 0, 0].astype(int) - [0, 20, 40, 60]).max() <= 2


def test_files_that_are_no_parquet_say_what_reads_them(datasets: Any, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.jpg").write_bytes(jpeg(9))
    with pytest.raises(DataError, match=r"holds \.jpg files.*then data=folder"):
        hubs.huggingface(tmp_path, name=str(tmp_path / "photos"))


def test_a_data_set_of_tfds_is_prepared_and_read(tfds: Any, tmp_path: Path) -> None:
    class TinyFlowers(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=NAMES),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {"train": self._generate_examples(8), "test": self._generate_examples(4)}

        def _generate_examples(self, count: int) -> Any:
            for n in range(count):
                image = np.full((10, 8, 3), 20 * n, np.uint8)
                yield n, {"image": image, "label": n % 2}

    data = Data(name="tfds", path="tiny_flowers", fetch={"_target_": "tfds"})
    dataset = open_dataset(data, tmp_path / "cache")
    assert dataset.dir == str(tmp_path / "prepared" / "tiny_flowers" / "1.0.0")
    assert dataset.classes == ("lily", "rose")
    counts = {name: len(split) for name, split in dataset.splits.items()}
    assert counts == {"train": 6, "val": 2, "test": 4}
    assert open_dataset(data, tmp_path / "cache").digest == dataset.digest  # prepared once


@pytest.mark.parametrize("format", ["huggingface", "tfds"])
def test_a_name_that_there_is_not_is_explained(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "huggingface":
        config = pytest.importorskip("datasets").config
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    else:
        pytest.importorskip("tensorflow_datasets")
    with pytest.raises(DataError, match=r"data\.path=nobody_has_it is no folder here, and could"):
        getattr(hubs, format)(tmp_path, name="nobody_has_it")
    with pytest.raises(DataError, match=rf"data={format} has no images\. Set data\.path="):
        getattr(hubs, format)(tmp_path)


def test_a_recorded_name_is_downloaded_only_if_the_command_says_it(tmp_path: Path) -> None:
    recorded = Data(name="huggingface", format="huggingface", path="a/b", fetch=HUGGINGFACE)
    with pytest.raises(ConfigError, match=r"If you trust it: data\.path=a/b"):
        recorded_or_named([], Data(), recorded)
    asked = ["data.path=a/b"]
    assert recorded_or_named(asked, Data(path="a/b"), recorded) == recorded
    require_own_images(Data(name="huggingface", path=str(tmp_path), fetch=HUGGINGFACE))
