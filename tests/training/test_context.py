"""What trials share is made once, and does not grow without a bound."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from flowersweep.config.schema import Config, Model
from flowersweep.runtime import start
from flowersweep.training.context import TrainingContext
from tests.tiny import tiny


def with_backbone(name: str) -> Config:
    return tiny(model=Model(name=name, backbone={"_target_": "tiny_backbone"}, weights="none"))


def new_context(folder: Path) -> TrainingContext:
    return TrainingContext(start(), folder, lambda what, done, total: None)


def test_backbones_that_fit_into_memory_are_kept(tmp_path: Path) -> None:
    context = new_context(tmp_path)
    first = context.main_stage(with_backbone("one"))
    context.main_stage(with_backbone("two"))
    assert context.main_stage(with_backbone("one")) is first


def test_the_backbone_that_was_used_longest_ago_makes_room_for_another(tmp_path: Path) -> None:
    context = new_context(tmp_path)
    context.main_stage(with_backbone("one"))
    second = context.main_stage(with_backbone("two"))
    first = weakref.ref(context.main_stage(with_backbone("one")))
    held = sum(backbone.nbytes for backbone in context.backbones.entries.values())
    assert held > 0
    context.backbones.limit = held
    context.main_stage(with_backbone("three"))
    assert len(context.backbones.entries) == 2
    assert context.main_stage(with_backbone("one")) is first()
    assert context.main_stage(with_backbone("two")) is not second


def test_a_backbone_that_made_room_leaves_no_memory_behind(tmp_path: Path) -> None:
    context = new_context(tmp_path)
    context.backbones.limit = 0
    gone = weakref.ref(context.get_shared(with_backbone("one")).classifier)
    context.main_stage(with_backbone("one"))
    context.main_stage(with_backbone("two"))
    gc.collect()
    assert gone() is None
    assert len(context.backbones.entries) == 1
