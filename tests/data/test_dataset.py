"""Open a data set: val is halved alike, classes are counted, folders are found or explained, a
second start verifies nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.config.schema import Data
from flowersweep.data import inventory
from flowersweep.data.dataset import open_dataset, stratified_halves
from flowersweep.data.pipeline import in_order
from flowersweep.data.records import encode
from flowersweep.errors import ConfigError, DataError
from tests.data.tiny_records import TRAIN, VAL, jpeg, split

FLOWERS = Path(__file__).parents[3] / "shared" / "data" / "flowers104" / "tfrecords-jpeg-192x192"


@pytest.fixture
def data(tiny: Path) -> Data:
    return Data(name="tiny", dir=str(tiny))


@pytest.fixture
def never_verifies(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        monkeypatch.setattr(
            inventory, "read_records", lambda *_, **__: pytest.fail("verified again")
        )

    return forbid


def test_a_data_set_is_described(data: Data, tiny: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data, tmp_path / "cache")
    assert (dataset.name, dataset.dir, dataset.image_size) == ("tiny", str(tiny), (8, 8))
    assert dataset.classes == ("class 0", "class 1", "class 2")
    assert {name: len(part) for name, part in dataset.splits.items()} == {
        "train": 12,
        "val": 7,
        "test": 3,
    }
    assert tuple(dataset.splits["train"].labels) == TRAIN  # type: ignore[arg-type]
    assert dataset.splits["val"].ids[6] == "val-6"
    assert len(dataset.digest) == 16


def test_tune_and_report_are_disjoint_and_together_all_of_val(data: Data, tmp_path: Path) -> None:
    dataset = open_dataset(data, tmp_path / "cache")
    assert sorted([*dataset.tune, *dataset.holdout]) == list(range(len(VAL)))
    other = open_dataset(replace(data, split_seed=3), tmp_path / "cache")
    assert not np.array_equal(dataset.tune, other.tune)


def test_all_labelled_images_are_trained_on_when_asked(data: Data, tmp_path: Path) -> None:
    usual = open_dataset(data, tmp_path / "cache")
    joined = open_dataset(replace(data, train_on="all"), tmp_path / "cache")
    train, val = usual.splits["train"], usual.splits["val"]
    together = joined.splits["train"]
    assert len(together) == len(train) + len(val)
    np.testing.assert_array_equal(together.labels, [*train.labels, *val.labels])
    images = list(in_order(together, usual.image_size, 8))
    straight = [*in_order(train, usual.image_size, 8), *in_order(val, usual.image_size, 8)]
    np.testing.assert_array_equal(np.concatenate(images), np.concatenate(straight))
    np.testing.assert_array_equal(joined.tune, usual.tune)
    assert joined.digest == usual.digest


def test_a_second_open_verifies_nothing_again(
    data: Data, tmp_path: Path, never_verifies: Callable[[], None]
) -> None:
    first = open_dataset(data, tmp_path / "cache")
    never_verifies()
    second = open_dataset(data, tmp_path / "cache")
    assert second.digest == first.digest
    assert np.array_equal(second.splits["val"].ids, first.splits["val"].ids)


def test_a_changed_file_is_verified_again(data: Data, tiny: Path, tmp_path: Path) -> None:
    first = open_dataset(data, tmp_path / "cache")
    split(tiny / "train", (0, 1, 2) * 4, 12, shards=3, start=5)
    assert open_dataset(data, tmp_path / "cache").digest != first.digest


def test_mended_labels_are_seen_where_size_and_time_of_the_file_stay(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    for file in (tiny / "val").iterdir():
        file.unlink()
    split(tiny / "val", (0, 1, 2, 0), 4, shards=1)
    first = open_dataset(data, tmp_path / "cache")
    times = {file: file.stat() for file in (tiny / "val").iterdir()}
    split(tiny / "val", (0, 1, 2, 1), 4, shards=1)
    for file, before in times.items():
        assert file.stat().st_size == before.st_size
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = open_dataset(data, tmp_path / "cache")
    assert second.digest != first.digest
    assert second.splits["val"].labels.tolist() == [0, 1, 2, 1]  # type: ignore[union-attr]


def test_a_moved_data_set_keeps_its_digest(data: Data, tiny: Path, tmp_path: Path) -> None:
    first = open_dataset(data, tmp_path / "cache")
    os.rename(tiny, tmp_path / "moved")
    assert (
        open_dataset(replace(data, dir=str(tmp_path / "moved")), tmp_path / "cache").digest
        == first.digest
    )


def test_the_digest_changes_with_the_name_of_a_class(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    before = open_dataset(data, tmp_path / "cache")
    names = [*before.classes[:-1], "another"]
    (tiny / "classes.txt").write_text("\n".join(names))
    after = open_dataset(data, tmp_path / "cache")
    assert after.classes[-1] == "another"
    assert after.digest != before.digest


def test_a_broken_memory_of_the_verification_is_made_anew(data: Data, tmp_path: Path) -> None:
    first = open_dataset(data, tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "verified").iterdir()
    kept.write_bytes(b"half a file")
    assert open_dataset(data, tmp_path / "cache").digest == first.digest
    assert [path.suffix for path in kept.parent.iterdir()] == [".npz"]


@pytest.mark.parametrize("place", ["tiny/classes.txt", "classes.txt", "names.txt"])
def test_class_names_are_read_from_the_folder_its_parent_or_a_given_file(
    data: Data, tmp_path: Path, place: str
) -> None:
    (tmp_path / place).write_text("aster\nbeech\nclover\n")
    given = replace(data, classes=str(tmp_path / place)) if place == "names.txt" else data
    assert open_dataset(given, tmp_path / "cache").classes == ("aster", "beech", "clover")


def test_the_shipped_list_names_the_104_flowers(data: Data, tmp_path: Path) -> None:
    classes = open_dataset(
        replace(data, classes="flowers104", allow_missing_classes=True), tmp_path / "cache"
    ).classes
    assert (len(classes), classes[0], classes[-1]) == (104, "pink primrose", "wild rose")


def test_an_unknown_list_of_classes_names_the_shipped_ones(data: Data, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"data.classes=flowers14 .* Shipped lists: flowers104. Did you mean \"flowers104\"\?",
    ):
        open_dataset(replace(data, classes="flowers14"), tmp_path / "cache")


def test_an_empty_line_in_a_class_file_is_an_error(data: Data, tiny: Path, tmp_path: Path) -> None:
    (tiny / "classes.txt").write_text("aster\n\nclover\n")
    with pytest.raises(DataError, match=r"classes\.txt, line 2: empty"):
        open_dataset(data, tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"\naster\nbeech\n", "line 1: empty", id="begins with an empty line"),
        pytest.param(b"", "line 1: empty", id="no names"),
        pytest.param(
            b"aster\x0cbeech\nclover\ndaisy", "line 1: .* cannot be printed", id="form feed"
        ),
        pytest.param(
            b"aster\nbeech\naster", "line 3: 'aster' is also the name in line 1", id="twice"
        ),
        pytest.param("aster\nbeech\nclover".encode("utf-16"), "is not UTF-8", id="UTF-16"),
    ],
)
def test_a_class_file_that_could_shift_or_mix_classes_is_an_error(
    data: Data, tiny: Path, tmp_path: Path, content: bytes, told: str
) -> None:
    (tiny / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"classes\.txt.* {told}"):
        open_dataset(data, tmp_path / "cache")


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_a_class_name(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    (tiny / "classes.txt").write_bytes("\ufeffaster\r\nbeech tree \r\nclover\r\n\r\n".encode())
    opened = open_dataset(data, tmp_path / "cache")
    assert opened.classes == ("aster", "beech tree", "clover")


def test_another_order_of_the_same_classes_is_another_description(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    described = []
    for names in ("aster\nbeech\nclover", "aster\nbeech\nclover\n", "beech\naster\nclover"):
        (tiny / "classes.txt").write_text(names)
        described.append(open_dataset(data, tmp_path / "cache").class_names)
    assert described[0] == described[1] != described[2]
    assert described[0].startswith("3 classes, aster to clover, ")


def test_a_class_without_a_training_image_is_named_unless_allowed(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    (tiny / "classes.txt").write_text("aster\nbeech\nclover\ndaisy\n")
    with pytest.raises(
        DataError,
        match=r"1 of 4 classes without an image in train: 3 \(daisy\)\..*allow_missing_classes=",
    ):
        open_dataset(data, tmp_path / "cache")
    assert (
        len(open_dataset(replace(data, allow_missing_classes=True), tmp_path / "cache").classes)
        == 4
    )


def test_a_class_seen_only_in_val_counts_as_a_class(
    data: Data, tmp_path: Path, rewrite: Callable[..., str]
) -> None:
    rewrite("val", [encode(jpeg(i), f"{i}", i) for i in range(5)])
    with pytest.raises(
        DataError, match=r"2 of 5 classes without an image in train: 3 \(class 3\), 4 \(class 4\)"
    ):
        open_dataset(data, tmp_path / "cache")


def test_image_size_resizes_to_a_square(data: Data, tmp_path: Path) -> None:
    assert open_dataset(replace(data, image_size=16), tmp_path / "cache").image_size == (16, 16)
    with pytest.raises(DataError, match=r"data\.image_size=0"):
        open_dataset(replace(data, image_size=0), tmp_path / "cache")


@pytest.mark.parametrize("name", ["flowers [v1]", "a*b?", r"back\slash", "{x,y}"])
def test_a_folder_may_have_what_a_pattern_uses_in_its_name(
    name: str, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / name
    shutil.copytree(tiny, folder)
    (folder / "train" / "._00-8x8-6.tfrec").write_bytes(b"macOS")
    dataset = open_dataset(Data(name="tiny", dir=str(folder)), tmp_path / "cache")
    assert len(dataset.splits["train"]) == len(TRAIN)


def test_the_folder_is_fetched_when_it_is_not_given(data: Data, tmp_path: Path) -> None:
    fetch = {
        "_target_": "synthetic",
        "classes": 2,
        "train": 2,
        "val": 1,
        "test": 0,
        "image_size": 32,
    }
    dataset = open_dataset(Data(name="drawn", fetch=fetch), tmp_path / "cache")
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 4, "val": 2}


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        pytest.param(
            {"dir": None}, DataError, "data=tiny has no folder. Set data.dir=PATH", id="neither"
        ),
        pytest.param(
            {"dir": None, "fetch": "x.y"},
            DataError,
            "must be a mapping with _target_",
            id="no mapping",
        ),
        pytest.param(
            {"dir": None, "fetch": {"_target_": "os.getcwd"}},
            ConfigError,
            "os.getcwd",
            id="not trusted",
        ),
        pytest.param(
            {"dir": None, "fetch": {"_target_": "flowersweep.nothing"}},
            ConfigError,
            "flowersweep.nothing",
            id="no function",
        ),
        pytest.param(
            {"dir": "{tmp}/tinny"},
            DataError,
            "no folder .*tinny. .* holds: tiny. Set data.dir",
            id="misspelled",
        ),
        pytest.param(
            {"dir": "{tmp}/a/b/c"}, DataError, "no folder .*a/b/c. .* holds: tiny", id="far off"
        ),
        pytest.param(
            {"dir": "/nowhere/flowers (1)"},
            DataError,
            "as it stands, without quotes",
            id="odd path",
        ),
        pytest.param(
            {"dir": "{tmp}"},
            DataError,
            "has no train/. .* holds: tiny. Did you mean data.dir=.*/tiny",
            id="one above",
        ),
        pytest.param(
            {"dir": "{tmp}/tiny/train"},
            DataError,
            "train has no train/. .* holds: 00-8x8-4.tfrec",
            id="one below",
        ),
    ],
)
def test_a_folder_that_is_not_there_is_explained(
    data: Data, tmp_path: Path, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    given = options | ({"dir": options["dir"].format(tmp=tmp_path)} if options["dir"] else {})
    with pytest.raises(error, match=told):
        open_dataset(replace(data, **given), tmp_path.parent / f"{tmp_path.name}-cache")


def test_an_empty_split_folder_is_explained(data: Data, tiny: Path, tmp_path: Path) -> None:
    for file in (tiny / "val").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"no \*.tfrec in .*/val"):
        open_dataset(data, tmp_path / "cache")


def test_a_folder_with_brackets_in_its_name_is_read(data: Data, tiny: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a [1] b?*"
    os.rename(tiny, odd)
    assert len(open_dataset(replace(data, dir=str(odd)), tmp_path / "cache").splits["val"]) == 7


def test_hidden_files_are_passed_over_and_counted(
    data: Data, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny / "train" / "._00-8x8-4.tfrec").write_bytes(b"what macOS leaves")
    (tiny / "__MACOSX" / "train").mkdir(parents=True)
    assert len(open_dataset(data, tmp_path / "cache").splits["train"]) == 12
    assert "train: passed over 1 hidden file, first ._00-8x8-4.tfrec" in caplog.text


def test_a_file_that_cannot_be_read_has_its_own_sentence(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    odd = tiny / "val" / "09-8x8.tfrec"
    for make, told in (
        (odd.touch, "holds no bytes"),
        (odd.mkdir, "is a folder"),
        (lambda: odd.symlink_to(tmp_path / "gone"), "is a link to .*gone, which is not there"),
    ):
        make()
        with pytest.raises(DataError, match=f"{odd} {told}"):
            open_dataset(data, tmp_path / "cache")
        odd.rmdir() if odd.is_dir() else odd.unlink()


def test_a_split_that_is_a_link_to_nothing_is_named(data: Data, tiny: Path, tmp_path: Path) -> None:
    os.rename(tiny / "train", tmp_path / "elsewhere")
    (tiny / "train").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"tiny/train is a link to .*gone"):
        open_dataset(data, tmp_path / "cache")


def test_class_names_that_cannot_be_read_are_not_passed_over(
    data: Data, tiny: Path, tmp_path: Path
) -> None:
    (tiny / "classes.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "classes.txt").write_text("aster\nbeech\nclover\n")
    with pytest.raises(DataError, match=r"tiny/classes.txt is a link to .*gone"):
        open_dataset(data, tmp_path / "cache")
    (tiny / "classes.txt").unlink()
    (tiny / "classes.txt").mkdir()
    with pytest.raises(DataError, match=r"tiny/classes.txt cannot be read"):
        open_dataset(data, tmp_path / "cache")


def test_an_address_without_its_library_says_what_to_install(data: Data, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s3://.* pip install tensorflow-io, .* or copy"):
        open_dataset(replace(data, dir="s3://bucket/flowers"), tmp_path / "cache")


SIZES = [(1, 1), *[(30, 10)] * 4, *[(10, 20)] * 3]


@pytest.mark.parametrize(
    ("sizes", "delivered"),
    [
        pytest.param(SIZES, (30, 10), id="half of the images have one size"),
        pytest.param([*SIZES, (12, 90), (14, 90)], (10, 10), id="no size is that of half of them"),
    ],
)
def test_sizes_that_differ_follow_a_rule_that_is_said(
    tiny: Path,
    rewrite: Callable[..., str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sizes: list[tuple[int, int]],
    delivered: tuple[int, int],
) -> None:
    rewrite("train", [encode(jpeg(9, size), f"{i}", i % 3) for i, size in enumerate(sizes)])
    data = Data(name="tiny", dir=str(tiny))
    opened = open_dataset(data, tmp_path / "cache")
    assert opened.image_size == delivered
    assert f"all are resized to {delivered[0]}x{delivered[1]} pixels" in caplog.text
    other = sum(size != delivered for size in sizes)
    assert opened.remarks[0].startswith(f"train: {other} of {len(sizes)} images (of ")


def test_images_of_one_size_that_are_upright_need_no_remark(data: Data, tmp_path: Path) -> None:
    assert open_dataset(data, tmp_path / "cache").remarks == ()


@pytest.mark.skipif(not FLOWERS.is_dir(), reason=f"the real flowers are not at {FLOWERS}")
def test_the_real_flowers_open(tmp_path: Path) -> None:
    dataset = open_dataset(Data(name="flowers", dir=str(FLOWERS), classes="flowers104"), tmp_path)
    assert {name: len(part) for name, part in dataset.splits.items()} == {
        "train": 5539,
        "val": 1620,
        "test": 3209,
    }
    assert (dataset.image_size, len(dataset.tune), len(dataset.holdout)) == ((192, 192), 810, 810)


@pytest.mark.parametrize(
    "counts",
    [(10, 10), (1, 1, 1, 1), (3, 5, 7, 9, 1), (2,), (1,), (0, 4, 0, 3), (5, 106, 17)],
    ids=str,
)
def test_halves_differ_by_at_most_one_in_each_class_and_in_total(counts: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    tune, holdout = stratified_halves(labels, seed=1)
    assert sorted([*tune, *holdout]) == list(range(len(labels)))
    assert abs(len(tune) - len(holdout)) <= 1
    difference = np.bincount(labels[tune], minlength=len(counts)) - np.bincount(
        labels[holdout], minlength=len(counts)
    )
    assert np.abs(difference).max() <= 1


def test_halves_are_the_same_on_every_machine() -> None:
    tune, holdout = stratified_halves(np.arange(12) % 3, seed=7)
    assert (list(tune), list(holdout)) == ([4, 6, 7, 8, 9, 11], [0, 1, 2, 3, 5, 10])


def test_another_seed_halves_differently() -> None:
    labels = np.zeros(50, int)
    assert not np.array_equal(stratified_halves(labels, 0)[0], stratified_halves(labels, 1)[0])
    assert np.array_equal(stratified_halves(labels, 0)[0], stratified_halves(labels, 0)[0])


def test_no_images_give_two_empty_halves() -> None:
    assert [len(half) for half in stratified_halves(np.array([], int), 0)] == [0, 0]
