"""Open a folder of photographs with others added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset


def opened(folder: Path, *extra: Path, **options: Any) -> Dataset:
    """Return the data of a folder with more training images from other places."""
    data = Data(name="folder", format="folder", dir=str(folder), extra=[*map(str, extra)])
    return open_dataset(replace(data, **options), folder.parent / "cache")


def labels_by_id(dataset: Dataset) -> dict[str, str]:
    """Return the class of each extra image by its id."""
    train = dataset.splits["train"]
    assert train.labels is not None
    return {str(train.ids[row]): dataset.classes[train.labels[row]] for row in dataset.extra.rows}
