"""Backbones of keras-hub by preset: `pip install 'flowersweep[hub]'`.

The library is imported when such a backbone is built, and not before.
"""

from __future__ import annotations

from typing import Any


def has_hub_layers(model: Any) -> bool:
    """Say whether a Keras model needs keras-hub to be opened."""
    return any(type(layer).__module__.startswith("keras_hub.") for layer in model._flatten_layers())
