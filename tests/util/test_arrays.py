"""Arrays on disk: a damaged byte is never taken for a number."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flowersweep.errors import StudyError
from flowersweep.util.arrays import (
    cache_arrays,
    cached_arrays,
    map_array,
    read_arrays,
    write_arrays,
    write_mapped,
)

ARRAYS = {"tune": np.arange(12, dtype=np.float16).reshape(3, 4), "labels": np.arange(3)}


def write_as_npy(path: Path) -> None:
    write_mapped(path, [*ARRAYS["tune"]], shape=(3, 4), dtype=np.float16)


def read_as_npy(path: Path) -> dict[str, np.ndarray]:
    return {"tune": map_array(path)}


KINDS = {
    "results": (lambda path: write_arrays(path, ARRAYS), read_arrays),
    "mapped": (write_as_npy, read_as_npy),
}


@pytest.mark.parametrize(("write", "read"), KINDS.values(), ids=KINDS)
def test_each_flipped_bit_is_an_error_or_changes_nothing(
    write: Callable[[Path], None], read: Callable[[Path], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    path = tmp_path / "arrays"
    write(path)
    whole = path.read_bytes()
    before = {name: np.array(array) for name, array in read(path).items()}
    refused = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.unlink()  # the same size and time must not hide it
        path.write_bytes(damaged)
        try:
            after = read(path)
        except StudyError:
            refused += 1
            continue
        assert {*after} == {*before}
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)
    assert refused >= sum(array.nbytes for array in before.values())


def test_an_array_is_mapped_as_it_was_written(tmp_path: Path) -> None:
    write_as_npy(tmp_path / "a.npy")
    mapped = map_array(tmp_path / "a.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, ARRAYS["tune"])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ARRAYS["tune"])
    with pytest.raises(StudyError, match=r"b\.npy cannot be read"):
        map_array(tmp_path / "b.npy")


def test_an_array_without_its_checksum_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAYS["tune"])
    with pytest.raises(StudyError, match="its checksum is another"):
        map_array(tmp_path / "a.npy")


def test_what_is_kept_to_save_time_is_left_out_where_it_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept.npz"
    assert cached_arrays(path, ["tune"]) is None
    cache_arrays(path, ARRAYS)
    kept = cached_arrays(path, ["tune"])
    assert kept is not None
    np.testing.assert_array_equal(kept["tune"], ARRAYS["tune"])
    assert not caplog.records
    assert cached_arrays(path, ["tune", "other"]) is None
    assert "has no array other" in caplog.text
    os.truncate(path, 100)
    assert cached_arrays(path, ["tune"]) is None
    assert "computed again" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_arrays_that_were_cut_off_are_named_with_what_to_do(share: float, tmp_path: Path) -> None:
    path = tmp_path / "logits.npz"
    with pytest.raises(StudyError, match=r"logits\.npz is not there. Restore it from a copy"):
        read_arrays(path)
    write_arrays(path, {"tune": np.ones((30, 5), np.float16)})
    np.testing.assert_array_equal(read_arrays(path)["tune"], np.ones((30, 5)))
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(StudyError, match=r"logits\.npz cannot be read .*Restore it from a copy"):
        read_arrays(path)


def test_what_can_be_computed_again_need_not_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache_arrays(tmp_path / "file" / "cache.npz", {"a": 1})
    assert "computed again" in caplog.text
