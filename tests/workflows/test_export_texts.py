"""The program beside an exported model sees images as training does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from flowersweep.workflows.export_texts import program
from tests.data.decoding import decode_file


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(90, 60), (40, 120), (21, 33)])
def test_the_program_resizes_as_training_does(
    resize: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4))
    photo.save(tmp_path / "photo.png")
    description = {"format": "keras", "resize": resize, "image_size": [24, 32], "classes": ["a"]}
    (tmp_path / "model.json").write_text(json.dumps(description))
    definitions = program(description).partition("\nimages = ")[0]
    names: dict[str, Any] = {"__file__": str(tmp_path / "classify.py")}
    exec(definitions, names)
    pixels = names["read"](tmp_path / "photo.png")
    expected = decode_file(tmp_path / "photo.png", (24, 32), resize).astype(np.float32)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 2
