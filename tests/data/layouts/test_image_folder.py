"""Photographs in folders of classes: any format and mode, split as they are or by chance."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowersweep.config.schema import Data
from flowersweep.data.dataset import Dataset, open_dataset
from flowersweep.data.duplicates import thumbnails
from flowersweep.data.files import read_file
from flowersweep.data.pipeline import in_order, padded, read_images, shuffled
from flowersweep.errors import DataError
from tests.data.decoding import decode_file

Save = Callable[..., Path]


def save(path: Path, level: int = 0, size: tuple[int, int] = (12, 10), **options: Any) -> Path:
    """Write a picture of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (level,) * 3).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of five pictures, each of its own grey."""
    folder = tmp_path / "photos"
    for number, name in enumerate(("lily", "rose")):
        for image in range(5):
            save(folder / name / f"{image}.png", 10 * (5 * number + image))
    return folder


def opened(folder: Path, **options: Any) -> Dataset:
    data = Data(name="folder", format="folder", dir=str(folder))
    return open_dataset(replace(data, **options), folder.parent / "cache")


def counts(dataset: Dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def test_folders_of_classes_are_cut_into_train_and_val_by_class(photos: Path) -> None:
    dataset = opened(photos)
    assert dataset.classes == ("lily", "rose")
    assert counts(dataset) == {"train": 8, "val": 2}
    assert [*dataset.splits["val"].labels] == [0, 1]  # type: ignore[misc]
    ids = [*dataset.splits["train"].ids, *dataset.splits["val"].ids]
    assert sorted(ids) == [f"{name}/{n}.png" for name in ("lily", "rose") for n in range(5)]
    assert any("val: 2 images out of train" in remark for remark in dataset.remarks)
    other = opened(photos, split_seed=1)
    assert (other.digest == dataset.digest) == ([*other.splits["val"].ids] == ids[8:])


def test_val_and_test_take_the_fractions_that_are_asked_for(tmp_path: Path) -> None:
    for name in "ab":
        for image in range(20):
            save(tmp_path / "p" / name / f"{image:02}.png", image)
    assert counts(opened(tmp_path / "p", val_fraction=0.25, test_fraction=0.1)) == {
        "train": 26,
        "val": 10,
        "test": 4,
    }


def test_two_images_a_class_are_enough(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / "p" / name / "1.png", 1)
        save(tmp_path / "p" / name / "2.png", 2)
    dataset = opened(tmp_path / "p")
    assert counts(dataset) == {"train": 3, "val": 3}
    assert [*dataset.splits["train"].labels] == [0, 1, 2]  # type: ignore[misc]


def test_six_images_a_class_leave_one_in_each_half_of_val(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for image in range(6):
            save(tmp_path / "p" / name / f"{image}.png", image)
    dataset = opened(tmp_path / "p")
    labels = dataset.splits["val"].labels
    assert labels is not None
    assert [*labels[dataset.tune]] == [*labels[dataset.holdout]] == [0, 1]


def test_folders_of_splits_are_taken_as_they_are_with_a_flat_test(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for split, images in (("train", 3), ("validation", 2)):
        for name in ("rose, wild", "Ünicorn 花"):
            for image in range(images):
                save(folder / split / name / "deep" / f"{image}.jpg", image)
    save(folder / "test" / "b.jpg")
    save(folder / "test" / "a.jpg")
    dataset = opened(folder)
    assert dataset.classes == ("rose, wild", "Ünicorn 花")
    assert counts(dataset) == {"train": 6, "val": 4, "test": 2}
    assert dataset.splits["test"].labels is None
    assert [*dataset.splits["test"].ids] == ["a.jpg", "b.jpg"]
    assert dataset.splits["val"].ids[0] == "rose, wild/deep/0.jpg"


def test_without_val_a_part_of_train_becomes_val_and_test_stays(photos: Path) -> None:
    whole = photos.parent / "whole"
    whole.mkdir()
    photos.rename(whole / "Train")
    save(whole / "test" / "rose" / "1.png")
    dataset = opened(whole)
    assert counts(dataset) == {"train": 8, "val": 2, "test": 1}
    assert [*dataset.splits["test"].labels] == [1]  # type: ignore[misc]


def test_splits_may_have_other_names(photos: Path) -> None:
    whole = photos.parent / "whole"
    whole.mkdir()
    photos.rename(whole / "mine")
    save(whole / "theirs" / "lily" / "1.png")
    save(whole / "theirs" / "rose" / "1.png")
    assert counts(opened(whole, splits={"train": "mine", "val": "theirs"})) == {
        "train": 10,
        "val": 2,
    }
    with pytest.raises(DataError, match=r"data\.splits\.val=thiers.* Did you mean \"theirs\"\?"):
        opened(whole, splits={"train": "mine", "val": "thiers"})


def test_a_class_that_is_called_train_is_a_class(tmp_path: Path) -> None:
    for name in ("car", "train"):
        for image in range(3):
            save(tmp_path / "p" / name / f"{image}.png", image)
    assert opened(tmp_path / "p").classes == ("car", "train")


def test_hidden_files_and_what_is_no_image_by_name_are_passed_over(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(photos / "__MACOSX" / "lily" / "9.png")
    for name in ("._0.png", "Thumbs.db", ".DS_Store"):
        (photos / "lily" / name).write_bytes(b"not an image")
    (photos / "readme.txt").write_text("mine")
    assert sum(counts(opened(photos)).values()) == 10
    assert "passed over 1 file of other kinds by their names, first lily/Thumbs.db" in caplog.text


@pytest.mark.parametrize("change", ["pixel", "label", "name", "nothing"])
def test_the_digest_changes_with_a_pixel_a_label_and_a_name(photos: Path, change: str) -> None:
    # each change leaves the division into train and val as it is
    options: dict[str, Any] = {"val_fraction": 0.2}
    before = opened(photos, **options).digest
    image = photos / "lily" / "4.png"
    if change == "pixel":
        changed = np.array(Image.open(image))
        changed[0, 0, 0] += 1
        Image.fromarray(changed).save(image)
    elif change == "label":
        image.rename(photos / "rose" / "99.png")
    elif change == "name":
        image.rename(photos / "lily" / "5.png")
    else:
        photos = photos.rename(photos.parent / "moved")
    assert (opened(photos, **options).digest == before) == (change == "nothing")


def test_a_file_that_is_changed_in_place_is_verified_again(photos: Path) -> None:
    image = photos / "lily" / "4.png"
    before, status = opened(photos).digest, image.stat()
    content = image.read_bytes()
    save(image, 41)
    assert image.stat().st_size == len(content)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert opened(photos).digest != before


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"", "holds no bytes", id="empty"),
        pytest.param(b"<html>not found</html>", "not one of JPEG, PNG", id="a page"),
        pytest.param("cut", "", id="a JPEG that was cut"),
    ],
)
def test_an_unreadable_file_is_named_or_left_out_and_listed(
    photos: Path, content: bytes | str, fault: str
) -> None:
    broken = photos / "lily" / "2.jpg"
    if content == "cut":
        content = save(broken, 7, (300, 300)).read_bytes()[:400]
    assert isinstance(content, bytes)
    broken.write_bytes(content)
    with pytest.raises(DataError, match=rf"{broken}: .*{fault}(?s:.*)data.skip_unreadable=true"):
        opened(photos)
    dataset = opened(photos, skip_unreadable=True)
    assert sum(counts(dataset).values()) == 10
    assert any(f"left out, {broken}: " in remark for remark in dataset.remarks)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda p: (p / "iris").mkdir(), "iris holds no image", id="empty class"),
        pytest.param(
            lambda p: (p / "rose").rename(p.parent / "gone"), "there is one class, 'lily'", id="one"
        ),
        pytest.param(
            lambda p: (p / "lily" / "x.png").symlink_to("/etc/hostname"),
            "x.png: not one of JPEG",
            id="link to what is no image",
        ),
        pytest.param(
            lambda p: (p / "lily" / "x.png").symlink_to("/dev/zero"),
            "x.png: is no file that holds an image",
            id="link to a device",
        ),
        pytest.param(
            lambda p: (p / "lily" / "x.png").symlink_to("x.png"),
            "x.png: is a link to x.png, which is not there",
            id="link to itself",
        ),
        pytest.param(
            lambda p: (p / "iris").symlink_to("gone"),
            "iris is a link to gone, which is not there",
            id="link to no folder",
        ),
        pytest.param(
            lambda p: (p / "lily" / "x.png").symlink_to("nothing"),
            "x.png: is a link to nothing, which is not there",
            id="link to nothing",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_explained(
    photos: Path, change: Callable[[Path], Any], told: str
) -> None:
    change(photos)
    with pytest.raises(DataError, match=told):
        opened(photos)


def test_links_are_followed_and_those_that_lead_out_are_told_of(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = opened(photos)
    farm = photos.parent / "farm"
    farm.mkdir()
    (farm / "rose").symlink_to(photos / "rose")
    (farm / "lily").mkdir()
    for path in (photos / "lily").iterdir():
        (farm / "lily" / path.name).symlink_to(path)
    linked = opened(farm)
    assert linked.digest == plain.digest
    assert "farm: links lead out of it to 10 images, first " in caplog.text
    assert caplog.text.count("links lead out") == 1


def test_a_link_to_a_folder_that_holds_it_is_passed_over(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = opened(photos)
    for link, target in {"rose/loop": "..", "rose/self": ".", "all": ".", "up": "/"}.items():
        (photos / link).symlink_to(target)
    (photos / "lily" / "other").symlink_to("../rose/loop")
    assert opened(photos).digest == plain.digest
    assert caplog.text.count("is a link to a folder that holds it: passed over") == 5


def test_a_link_to_what_was_not_fetched_can_be_left_out(photos: Path) -> None:
    (photos / "rose" / "0.png").unlink()
    (photos / "rose" / "0.png").symlink_to("../.git/annex/objects/x")
    left_out = opened(photos, skip_unreadable=True)
    assert sum(counts(left_out).values()) == 9


def test_a_class_that_is_only_in_val_is_named(photos: Path) -> None:
    whole = photos.parent / "whole"
    whole.mkdir()
    photos.rename(whole / "train")
    save(whole / "val" / "iris" / "1.png")
    with pytest.raises(DataError, match=r"1 of 3 classes without an image in train: 0 \(iris\)"):
        opened(whole)


@pytest.mark.parametrize(
    ("make", "data", "told"),
    [
        pytest.param("a/1.jpg", "tfrecords", "try data=folder data.dir", id="photographs"),
        pytest.param("train/00.tfrec", "folder", "try data=tfrecords data.dir", id="records"),
        pytest.param("1.jpg", "folder", "lie in no class", id="no classes"),
        pytest.param("p/a/1.jpg", "tfrecords", "try data=folder", id="deep"),
    ],
)
def test_a_folder_of_another_kind_says_which_option_fits(
    tmp_path: Path, make: str, data: str, told: str
) -> None:
    path = tmp_path / "p" / make
    path.parent.mkdir(parents=True)
    save(path) if path.suffix == ".jpg" else path.write_bytes(b"x")
    with pytest.raises(DataError, match=told):
        open_dataset(Data(name=data, format=data, dir=str(tmp_path / "p")), tmp_path / "cache")


def test_every_mode_and_format_becomes_the_same_pictures_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    deep = Image.fromarray(np.full((30, 20), 32896, np.uint16))
    exif = picture.getexif()
    exif[0x0112] = 6
    for name in "ab":
        (folder / name).mkdir(parents=True)
        picture.save(folder / name / "plain.jpg")
        picture.save(folder / name / "turned.jpg", exif=exif)
        picture.convert("CMYK").save(folder / name / "print.jpg")
        picture.convert("L").save(folder / name / "grey.png")
        picture.convert("P").save(folder / name / "palette.gif")
        picture.convert("RGBA").save(folder / name / "alpha.webp")
        deep.save(folder / name / "deep.png")
        picture.save(folder / name / "UPPER.BMP")
    dataset = opened(folder)
    train, size = dataset.splits["train"], dataset.image_size
    images = np.concatenate([*in_order(train, size, 4)])
    for index, id in enumerate(train.ids):
        np.testing.assert_array_equal(images[index], decode_file(folder / id, size))
        np.testing.assert_array_equal(images[index], read_images(train, [index], size)[0])
    assert thumbnails(train).shape == (len(train), 16, 16)
    remarks = "\n".join(dataset.remarks)
    for change in ("turned upright", "converted from CMYK", "reduced from 16"):
        assert change in remarks


@pytest.mark.parametrize(
    ("sizes", "delivered"),
    [
        pytest.param([(3000, 4000)] * 3, (224, 224), id="photographs of one size"),
        pytest.param([(300, 500), (800, 600), (250, 900)], (224, 224), id="mixed"),
        pytest.param([(40, 90), (30, 70), (50, 60)], (40, 40), id="small and mixed"),
        pytest.param([(96, 128)] * 3, (96, 128), id="small of one size"),
    ],
)
def test_the_usual_size_suits_a_backbone(
    tmp_path: Path, sizes: list[tuple[int, int]], delivered: tuple[int, int]
) -> None:
    for name in "ab":
        for number, size in enumerate(sizes):
            save(tmp_path / "p" / "train" / name / f"{number}.jpg", number, size)
        save(tmp_path / "p" / "val" / name / "1.jpg", 1)
    assert opened(tmp_path / "p").image_size == delivered


@pytest.mark.parametrize(
    ("resize", "corner", "edge"), [("stretch", 0, 0), ("crop", 255, 255), ("pad", 0, 0)]
)
def test_an_image_of_another_shape_is_stretched_cropped_or_padded(
    tmp_path: Path, resize: str, corner: int, edge: int
) -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 255
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / "p" / split / name).mkdir(parents=True)
            Image.fromarray(wide).save(tmp_path / "p" / split / name / "1.png")
    dataset = opened(tmp_path / "p", image_size=30, resize=resize)
    (images,) = in_order(dataset.splits["train"], (30, 30), 2)
    assert (images[0, 0, 0, 0], images[0, 15, 0, 0]) == (corner, edge)
    assert images[0, 15, 15, 0] == 255
    assert images[0, 1, 15, 0] == (0 if resize == "pad" else 255)
    assert np.array_equal(
        images[0], decode_file(tmp_path / "p" / "train" / "a" / "1.png", (30, 30), resize)
    )
    assert dataset.resize_suffix in str(dataset.splits["train"].budget.path)


def test_a_large_photograph_is_decoded_at_reduced_size_and_looks_the_same(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    photo = Image.fromarray(np.stack([np.tile(ramp, (1200, 1))] * 3, axis=-1))
    exif = photo.getexif()
    exif[0x0112] = 1
    photo.save(tmp_path / "plain.jpg", quality=95)
    photo.save(tmp_path / "exif.jpg", quality=95, exif=exif)
    photo.save(tmp_path / "whole.png")
    plain, with_exif, whole = (
        decode_file(tmp_path / name, (60, 80)).astype(int)
        for name in ("plain.jpg", "exif.jpg", "whole.png")
    )
    assert np.abs(plain - whole).max() <= 2
    assert np.abs(with_exif - whole).max() <= 2


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_hold_every_image_with_its_label(
    photos: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_memory:
        monkeypatch.setattr("flowersweep.data.pipeline.IN_MEMORY", 0)
    dataset = opened(photos)
    train, size = dataset.splits["train"], dataset.image_size
    order = []
    for epoch in range(2):
        seen = Counter[int]()
        for images, labels in shuffled(train, size, 4, seed=0, epoch=epoch):
            levels = images[:, 0, 0, 0]
            assert [*labels] == [*(levels >= 50)]
            seen.update(levels.tolist())
            order.append(levels.tolist())
        assert len(seen) == 8
    assert order[:2] != order[2:]
    together = opened(photos, train_on="all").splits["train"]
    (all_images,) = padded(together, size, 10, np.arange(10))
    assert sorted(all_images[:, 0, 0, 0]) == list(range(0, 100, 10))


def test_a_folder_is_no_image(photos: Path) -> None:
    with pytest.raises(DataError, match="is no file"):
        read_file(photos)
