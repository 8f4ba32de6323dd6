"""Steps and batches, on any number of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowersweep.config.batches import global_batch, steps_of_epoch
from flowersweep.config.schema import Train
from flowersweep.errors import ConfigError

HEAD = Train(epochs=10)
FINETUNE = Train(finetune=True, head_epochs=1, epochs=2, min_head_steps=0)


@given(st.integers(2, 10**6), st.integers(1, 512), st.sampled_from([1, 2, 4]))
def test_a_head_takes_enough_steps_of_batches_that_the_images_fill(
    images: int, per_replica: int, parts: int
) -> None:
    train = Train(batch_per_replica=per_replica * parts, gradient_accumulation_steps=parts)
    if images < parts:
        return
    batch = global_batch(train, images)
    assert 0 < batch <= images
    assert batch % parts == 0
    steps = [steps_of_epoch(train, epoch, images, batch) for epoch in range(train.epochs)]
    assert sum(steps) >= train.min_head_steps
    assert steps[0] >= images // batch


def test_an_epoch_of_many_images_is_one_pass() -> None:
    assert steps_of_epoch(HEAD, 0, 50_000, 128) == 390
    assert steps_of_epoch(HEAD, 0, 748, 128) == 40


def test_a_fine_tuning_epoch_is_one_pass_and_its_head_stage_takes_enough_steps() -> None:
    steps = Train(finetune=True, head_epochs=4, epochs=2, min_head_steps=400)
    assert [steps_of_epoch(steps, epoch, 40, 8) for epoch in range(6)] == [100] * 4 + [5] * 2


def test_steps_per_epoch_bounds_the_main_stage_alone() -> None:
    short = Train(finetune=True, head_epochs=1, epochs=2, min_head_steps=0, steps_per_epoch=2)
    assert [steps_of_epoch(short, epoch, 40, 8) for epoch in range(3)] == [5, 2, 2]
    assert [steps_of_epoch(FINETUNE, epoch, 40, 8) for epoch in range(3)] == [5, 5, 5]


def test_every_replica_has_an_image_of_each_part_or_it_is_said() -> None:
    assert global_batch(Train(batch_per_replica=16), 100, replicas=8) == 96
    with pytest.raises(ConfigError, match="too few for 8 replicas"):
        global_batch(Train(), 7, replicas=8)
    with pytest.raises(ConfigError, match="does not divide"):
        global_batch(Train(batch_per_replica=10, gradient_accumulation_steps=4), 100)
