"""Drawn flowers: the same arguments give the same files, written once and whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.schema import Data
from flowersweep.data.dataset import open_dataset
from flowersweep.data.pipeline import in_order
from flowersweep.data.synthetic import dataset
from flowersweep.data.synthetic.dataset import write
from flowersweep.data.synthetic.drawing import picture
from flowersweep.data.synthetic.species import species_of

FEW = {"classes": 3, "train": 4, "val": 2, "test": 1, "image_size": 32}


def opened(folder: Path, cache: Path) -> tuple[str, dict[str, int], tuple[str, ...]]:
    dataset = open_dataset(Data(name="drawn", dir=str(folder)), cache)
    return (
        dataset.digest,
        {name: len(split) for name, split in dataset.splits.items()},
        dataset.classes,
    )


def test_a_drawn_data_set_has_the_layout_and_the_names_of_a_real_one(tmp_path: Path) -> None:
    _, sizes, classes = opened(write(tmp_path, **FEW), tmp_path)
    assert sizes == {"train": 12, "val": 6, "test": 3}
    assert classes == tuple(kind.name for kind in species_of(3, 0))


def test_the_same_arguments_draw_the_same_files_and_others_do_not(tmp_path: Path) -> None:
    first, second, third = (
        opened(write(tmp_path / place, **FEW, seed=seed), tmp_path)[0]
        for place, seed in (("a", 0), ("b", 0), ("b", 1))
    )
    assert first == second
    assert first != third


def test_a_complete_folder_is_reused_and_nothing_unfinished_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, **FEW)
    monkeypatch.setattr(dataset, "picture", lambda *_: pytest.fail("drawn again"))
    assert write(tmp_path, **FEW) == folder
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_half_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        dataset, "write_split", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, **FEW)
    assert list(tmp_path.iterdir()) == []


def test_all_104_species_can_be_drawn_and_have_names_of_their_own() -> None:
    species = species_of(104, 0)
    assert len({kind.name for kind in species}) == 104
    for number, kind in enumerate(species):
        image = picture(kind, 48, np.random.default_rng(number))
        assert image.shape == (48, 48, 3)
        assert image.std() > 5


def test_images_of_one_species_are_all_different(tmp_path: Path) -> None:
    dataset = open_dataset(Data(name="drawn", dir=str(write(tmp_path, **FEW))), tmp_path)
    images = np.concatenate(list(in_order(dataset.splits["train"], dataset.image_size, 8)))
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
