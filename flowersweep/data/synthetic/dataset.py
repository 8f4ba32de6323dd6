"""A data set of drawn flowers, to try, test and measure everything without a download."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np

from flowersweep.data.images import compress
from flowersweep.data.records import encode, write_split
from flowersweep.data.synthetic.drawing import picture
from flowersweep.data.synthetic.species import Species, species_of
from flowersweep.util.files import move

_log = logging.getLogger(__name__)
_VERSION = 1  # increase it when the same arguments draw other pictures
_RECORDS_A_FILE = 256
_SPLITS = ("train", "val", "test")


def write(
    cache: Path,
    *,
    classes: int = 104,
    train: int = 16,
    val: int = 10,
    test: int = 4,
    image_size: int = 96,
    seed: int = 0,
) -> Path:
    """Draw a data set into a subfolder of ``cache``, unless it exists; return the subfolder.

    The same arguments always draw the same pictures.

    Args:
        cache: Parent folder.
        classes: Number of classes.
        train: Images per class in train.
        val: Images per class in val.
        test: Images per class in test.
        image_size: Side in pixels.
        seed: Random seed.
    """
    folder = (
        cache / f"synthetic-v{_VERSION}-{classes}x{train}+{val}+{test}-{image_size}px-seed{seed}"
    )
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    _log.info("drawing %d flowers into %s, once", classes * (train + val + test), folder)
    unfinished = Path(tempfile.mkdtemp(dir=cache, prefix="drawing-"))
    try:
        species = species_of(classes, seed)
        names = "".join(f"{kind.name}\n" for kind in species)
        (unfinished / "classes.txt").write_text(names, encoding="utf-8")
        for split, per_class in zip(_SPLITS, (train, val, test), strict=True):
            if per_class:
                _write_split(unfinished / split, species, per_class, image_size, seed)
        _move(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write_split(
    folder: Path, species: list[Species], per_class: int, side: int, seed: int
) -> None:
    split = _SPLITS.index(folder.name)
    order = np.random.Generator(np.random.PCG64([seed, 3, split])).permutation(
        np.repeat(np.arange(len(species)), per_class)
    )
    records = []
    for number, label in enumerate(order):
        rng = np.random.Generator(np.random.PCG64([seed, 4, split, number]))
        jpeg = compress(picture(species[label], side, rng))
        known_label = None if folder.name == "test" else int(label)
        records.append(encode(jpeg, f"{folder.name}-{number:05d}", known_label))
    write_split(str(folder), records, (side, side), shards=-(-len(records) // _RECORDS_A_FILE))


def _move(unfinished: Path, folder: Path) -> None:
    unfinished.chmod(0o755)  # mkdtemp makes a private folder
    try:
        move(Path(unfinished), Path(folder))
    except OSError:
        if not folder.exists():  # else another process drew the same pictures first
            raise
