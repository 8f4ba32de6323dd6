"""Decoded images that are kept: the same images in the same order, decoded once, within the budget;
and the shares of several hosts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowersweep.config.schema import Data
from flowersweep.data import decoded, pipeline
from flowersweep.data.dataset import Dataset, Split, open_dataset
from flowersweep.data.images import Images
from flowersweep.errors import DataError
from tests.data.counting import counted

SIZE, NEEDED = (8, 8), 12 * 8 * 8 * 3


@pytest.fixture(autouse=True, params=["JPEGs in memory", "from files"])
def apart(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep nothing of other tests; JPEGs held in memory, or as if they were too many for that."""
    monkeypatch.setattr(decoded, "_in_memory", {})
    decoded._say.cache_clear()
    if request.param == "from files":
        monkeypatch.setattr(pipeline, "IN_MEMORY", 0)


def opened(tiny: Path, *, memory: int = 0, disk: int = 0) -> Dataset:
    data = Data(name="tiny", dir=str(tiny), cache_bytes=memory, disk_cache_bytes=disk)
    return open_dataset(data, tiny.parent / "cache")


def epochs(split: Split, batch: int = 5) -> Iterator[tuple[Images, list[int]]]:
    """Three epochs, the last of them from its second batch on."""
    for epoch, skip in ((0, 0), (1, 0), (2, 1)):
        for images, labels in pipeline.shuffled(split, SIZE, batch, seed=3, epoch=epoch, skip=skip):
            yield images, labels.tolist()


@pytest.mark.parametrize(
    "budget", [{"memory": NEEDED}, {"disk": NEEDED}], ids=["in memory", "on disk"]
)
def test_kept_images_come_in_the_order_and_with_the_pixels_of_decoded_ones(
    tiny: Path, budget: dict[str, int]
) -> None:
    plain, kept = (list(epochs(opened(tiny, **each).splits["train"])) for each in ({}, budget))
    assert len(plain) == len(kept) == 5
    for (images, labels), (same, alike) in zip(plain, kept, strict=True):
        np.testing.assert_array_equal(images, same)
        assert labels == alike


def test_no_image_is_decoded_twice(tiny: Path) -> None:
    split = opened(tiny, memory=NEEDED).splits["train"]
    with counted() as found:
        for epoch in range(3):
            list(pipeline.shuffled(split, SIZE, 4, seed=0, epoch=epoch))
            assert len(found) == 12
        list(pipeline.padded(split, SIZE, 4, np.arange(12), keep=True))
        assert len(found) == 12


def test_what_an_epoch_left_out_is_decoded_when_it_comes(tiny: Path) -> None:
    split = opened(tiny, memory=NEEDED).splits["train"]
    with counted() as found:
        seen: set[int] = set()
        for images, _ in epochs(split):
            seen |= {int(mean) for mean in images.mean((1, 2, 3))}
    assert len(found) == len(seen)


def test_a_split_that_does_not_fit_is_not_kept_and_the_log_says_why(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = opened(tiny, memory=NEEDED - 1).splits["train"]
    with counted() as found, caplog.at_level(logging.INFO):
        for epoch in range(2):
            list(pipeline.shuffled(split, SIZE, 4, seed=0, epoch=epoch))
    assert len(found) == 24
    (line,) = (record.message for record in caplog.records)
    assert line.startswith(
        "12 decoded images of 8x8, 2.3 kB: decoded anew every time, for data.cache_bytes has"
    )


def test_the_budget_is_for_all_splits_together(tiny: Path) -> None:
    dataset = opened(tiny, memory=NEEDED + 7 * 8 * 8 * 3 - 1)
    with counted() as found:
        for _ in range(2):
            list(pipeline.shuffled(dataset.splits["train"], SIZE, 4, seed=0, epoch=0))
            list(pipeline.padded(dataset.splits["val"], SIZE, 4, np.arange(7), keep=True))
    assert len(found) == 12 + 2 * 7


def test_the_file_is_there_for_the_next_process_and_nothing_half_written_is(tiny: Path) -> None:
    split = opened(tiny, disk=NEEDED).splits["train"]
    with counted() as found:
        for _ in range(2):
            list(epochs(split))
            assert len(found) == 12
    (file,) = (tiny.parent / "cache" / "decoded").iterdir()
    assert file.name.endswith("-train-8x8.npy")
    assert np.load(file).shape == (12, 8, 8, 3)


@pytest.mark.parametrize("place", [0, 20, 300, -1, None])
def test_a_damaged_file_is_decoded_again_and_named(
    tiny: Path, place: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    split = opened(tiny, disk=NEEDED).splits["train"]
    before = [images for images, _ in epochs(split)]
    (file,) = (tiny.parent / "cache" / "decoded").iterdir()
    content = bytearray(file.read_bytes())
    if place is None:
        del content[500:]
    else:
        content[place] ^= 1
    file.unlink()
    file.write_bytes(content)
    for images, (again, _) in zip(before, epochs(split), strict=True):
        np.testing.assert_array_equal(images, again)
    assert f"{file} cannot be read" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tiny: Path) -> None:
    (tiny.parent / "cache").mkdir()
    (tiny.parent / "cache" / "decoded").write_text("in the way")
    with pytest.raises(
        DataError, match=r"cannot write .*-train-8x8.npy: File exists.*data.disk_cache_bytes=0"
    ):
        list(epochs(opened(tiny, disk=NEEDED).splits["train"]))


def test_hosts_together_read_the_batches_of_one_and_each_decodes_its_share(tiny: Path) -> None:
    split = opened(tiny).splits["train"]
    shares = [replace(split, share=(host, 2)) for host in (0, 1)]
    whole = list(epochs(split, batch=4))
    parts = []
    for share in shares:
        with counted() as found:
            parts.append(list(epochs(share, batch=4)))
        assert len(found) == sum(len(images) for images, _ in whole) // 2
    for (images, labels), (first, ours), (second, theirs) in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(images, np.concatenate([first, second]))
        assert labels == ours + theirs


@pytest.mark.parametrize("rows", [[0, 3, 4, 7, 11], [2], list(range(12))])
def test_hosts_together_read_a_padded_evaluation(rows: list[int], tiny: Path) -> None:
    split = opened(tiny).splits["train"]
    (every,) = pipeline.in_order(split, SIZE, 12)
    parts = [
        list(pipeline.padded(replace(split, share=(host, 2)), SIZE, 8, np.array(rows)))
        for host in (0, 1)
    ]
    batches = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
    assert {len(batch) for batch in batches} == {8}
    found = np.concatenate(batches)
    np.testing.assert_array_equal(found[: len(rows)], every[rows])
    assert not found[len(rows) :].any()
