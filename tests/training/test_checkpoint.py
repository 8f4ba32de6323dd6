"""A checkpoint that is read is the one that was written, to the bit."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowersweep.errors import StudyError
from flowersweep.study.events import Epoch
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.step import State
from flowersweep.util.arrays import read_arrays, write_arrays

array = arrays.arrays(
    st.sampled_from([np.dtype("float32"), np.dtype("int32"), np.dtype("uint32")]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=3),
)
states = st.builds(State, st.integers(0, 10**6).map(np.int32), *[st.lists(array, max_size=3)] * 4)
numbers = st.floats(allow_nan=False, allow_infinity=False)
epochs = st.builds(
    Epoch, st.integers(1, 99), numbers, st.dictionaries(st.text(max_size=9), numbers, max_size=3)
)
losses = st.lists(st.floats(width=32, allow_nan=False).map(np.float32), max_size=4).map(tuple)
checkpoints = st.builds(
    Checkpoint, st.integers(0, 99), states, losses, st.lists(epochs, max_size=2).map(tuple)
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints") / "0"


@settings(deadline=None)
@given(checkpoint=checkpoints)
def test_a_checkpoint_is_read_as_it_was_written(path: Path, checkpoint: Checkpoint) -> None:
    checkpoint.save(path)
    again = Checkpoint.load(path)
    assert (again.epoch, again.losses, again.done) == (
        checkpoint.epoch,
        checkpoint.losses,
        checkpoint.done,
    )
    assert jax.tree.structure(again.state) == jax.tree.structure(checkpoint.state)
    for after, before in zip(
        jax.tree.leaves(again.state), jax.tree.leaves(checkpoint.state), strict=True
    ):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(np.asarray(after), before)
    assert not path.with_suffix(".partial").exists()


def standing() -> Checkpoint:
    leaf = np.arange(6, dtype=np.float32).reshape(2, 3)
    return Checkpoint(3, State(np.int32(7), [leaf], [], [leaf], []))  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_that_was_cut_off_is_none_and_is_named(
    share: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "7.npz"
    standing().save(path)
    os.truncate(path, int(share * path.stat().st_size))
    assert Checkpoint.resume(path) == Checkpoint()
    assert str(path) in caplog.text
    with pytest.raises(StudyError, match=r"7\.npz cannot be read .*Restore it from a copy"):
        Checkpoint.load(path)


@pytest.mark.parametrize("change", ["format", "a leaf less", "another shape", "another dtype"])
def test_a_checkpoint_of_another_format_or_with_other_arrays_is_refused(
    change: str, tmp_path: Path
) -> None:
    path = tmp_path / "7.npz"
    standing().save(path)
    arrays = read_arrays(path)
    if change == "format":
        arrays["about"] = np.array(arrays["about"].item().replace(b'"format": 1', b'"format": 0'))
    elif change == "a leaf less":
        del arrays[".optimizer[0]"]
    else:
        leaf = arrays[".trainable[0]"]
        arrays[".trainable[0]"] = leaf.T if change == "another shape" else leaf.astype(np.int32)
    write_arrays(path, arrays)
    with pytest.raises(StudyError, match=r"7\.npz is no checkpoint of this version"):
        Checkpoint.load(path)
