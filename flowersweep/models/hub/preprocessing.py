"""How a preset wants its images: size, scale and offset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# of transformers: what Pillow calls its filters
RESAMPLING = {0: "nearest", 1: "lanczos3", 2: "bilinear", 3: "bicubic"}
TRANSFORMERS = "preprocessor_config.json"


class Preprocessing(NamedTuple):
    """Images in 0..255 are resized, then multiplied by ``scale``, then ``offset`` is added."""

    size: int | None  # pixels of the side that the network was trained with; None: any
    scale: float | Sequence[float] = 1.0
    offset: float | Sequence[float] = 0.0
    interpolation: str = "bilinear"
    antialias: bool = False


def of_converter(converter: Any) -> Preprocessing:
    """Return what an `ImageConverter` of keras-hub does."""
    return Preprocessing(
        int(converter.image_size[0]) if converter.image_size else None,
        1.0 if converter.scale is None else _plain(converter.scale),
        0.0 if converter.offset is None else _plain(converter.offset),
        converter.interpolation,
        converter.antialias,
    )


def of_transformers(file: Path) -> Preprocessing:
    """Return what a ``preprocessor_config.json`` of transformers says: keras-hub reads it for few
    networks. Raises KeyError, TypeError or ValueError for what is none.
    """
    config: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    size = config["crop_size"] if config.get("do_center_crop") else config["size"]
    if isinstance(size, Mapping):
        size = size.get("height") or size["shortest_edge"]
    scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    resampling = RESAMPLING[config.get("resample", 2)]
    if not config.get("do_normalize", True):
        return Preprocessing(int(size), scale, 0.0, resampling, antialias=True)
    mean, deviation = config["image_mean"], config["image_std"]
    return Preprocessing(
        int(size),
        [scale / d for d in deviation],
        [-m / d for m, d in zip(mean, deviation, strict=True)],
        resampling,
        antialias=True,  # Pillow does
    )


def _plain(value: Any) -> float | list[float]:
    return [float(each) for each in value] if isinstance(value, list | tuple) else float(value)
