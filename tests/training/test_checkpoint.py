"""A checkpoint that is read is the one that was written, to the bit."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowersweep.study.events import Epoch
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.step import State

array = arrays.arrays(
    st.sampled_from([np.dtype("float32"), np.dtype("int32"), np.dtype("uint32")]),
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=3),
)
states = st.builds(State, st.integers(0, 10**6).map(np.int32), *[st.lists(array, max_size=3)] * 4)
numbers = st.floats(allow_nan=False, allow_infinity=False)
epochs = st.builds(Epoch, st.integers(1, 99), numbers, st.dictionaries(st.text(max_size=9), numbers, max_size=3))
losses = st.lists(st.floats(width=32, allow_nan=False).map(np.float32), max_size=4).map(tuple)
checkpoints = st.builds(Checkpoint, st.integers(0, 99), states, losses, st.lists(epochs, max_size=2).map(tuple))


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
    for after, before in zip(jax.tree.leaves(again.state), jax.tree.leaves(checkpoint.state), strict=True):
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(np.asarray(after), before)
    assert not path.with_suffix(".partial").exists()
