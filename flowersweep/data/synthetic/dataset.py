"""A data set of drawn flowers, so that everything can be tried, tested and measured without a download."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np

from flowersweep.data.records import compress, encode, write_split
from flowersweep.data.synthetic.drawing import picture
from flowersweep.data.synthetic.species import Species, species_of
from flowersweep.util.files import move

_log = logging.getLogger(__name__)
_VERSION = 1  # raise it when the same arguments would draw other pictures
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
    """Draw a data set into a folder of ``cache``, or find it there from the last time; return the folder.

    ``train``, ``val`` and ``test`` are images per class, ``image_size`` is the side in pixels. The same arguments draw the same pictures.
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
        (unfinished / "classes.txt").write_text(
            "".join(f"{kind.name}\n" for kind in species), encoding="utf-8"
        )
        for split, each in zip(_SPLITS, (train, val, test), strict=True):
            if each:
                _write_split(unfinished / split, species, each, image_size, seed)
        _move(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write_split(folder: Path, species: list[Species], each: int, side: int, seed: int) -> None:
    split = _SPLITS.index(folder.name)
    order = np.random.Generator(np.random.PCG64([seed, 3, split])).permutation(
        np.repeat(np.arange(len(species)), each)
    )
    records = []
    for number, label in enumerate(order):
        rng = np.random.Generator(np.random.PCG64([seed, 4, split, number]))
        records.append(
            encode(
                compress(picture(species[label], side, rng)),
                f"{folder.name}-{number:05d}",
                None if folder.name == "test" else int(label),
            )
        )
    write_split(str(folder), records, (side, side), shards=-(-len(records) // _RECORDS_A_FILE))


def _move(unfinished: Path, folder: Path) -> None:
    unfinished.chmod(0o755)  # mkdtemp makes it private
    try:
        move(Path(unfinished), Path(folder))
    except OSError:
        if not folder.exists():  # else another process drew the same pictures first
            raise
