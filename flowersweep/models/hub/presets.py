"""Find a preset of keras-hub: a name, an address on a hub, or a folder. Nothing in it is run.

A folder may come from a stranger. Its JSON files name classes, and only layers and networks of
keras-hub and Keras are built from them; weights are read as arrays.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from flowersweep.errors import ConfigError, did_you_mean
from flowersweep.models.hub.preprocessing import (
    TRANSFORMERS,
    Preprocessing,
    of_converter,
    of_transformers,
)

NETWORK, PREPROCESSING = "config.json", "image_converter.json"
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError)
HUBS = ("hf://", "kaggle://")
WAYS = "a name of keras-hub, a folder, hf://OWNER/NAME or kaggle://OWNER/NAME/keras/VARIANT"


def open_preset(preset: str, *, weights: bool) -> tuple[keras.Model, Preprocessing | None]:
    """Return the backbone of a preset at the size that it was made for, and its preprocessing, or
    None where the preset has none.

    Without ``weights`` they are random. Raises `ConfigError`.
    """
    library = _library()
    place = _locate(preset, library)
    try:
        kind = _require_known(place, library)
        with warnings.catch_warnings():
            # Keras warns of each layer that has no weights before it says what is wrong
            warnings.simplefilter("ignore", UserWarning)
            policy = keras.config.dtype_policy()
            network = kind.from_preset(place, load_weights=weights, dtype=policy)
        return network, _preprocessing(place, library)
    except ConfigError:
        raise
    # what a file that is not there or of another form raises; RuntimeError: weights of another net
    except (*UNREADABLE, RuntimeError, ImportError) as error:
        raise ConfigError(_unreadable(preset, place, error, library)) from error


def _library() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ConfigError(
            f"model.preset needs keras-hub ({error}): pip install 'flowersweep[hub]'"
        ) from error
    return keras_hub


def _locate(preset: str, library: Any) -> str:
    """Return what keras-hub calls a preset; of a folder the whole path."""
    if preset.startswith(HUBS) or preset in library.models.Backbone.presets:
        return preset
    if "://" in preset:
        raise ConfigError(f"model.preset={preset}: must be {WAYS}")
    folder = Path(preset).expanduser()
    if folder.is_dir():
        return str(folder.resolve())
    if os.sep in preset or preset.startswith((".", "~")):
        raise ConfigError(f"model.preset names the folder {preset}, which is not there")
    names = did_you_mean(preset, image_presets(library), "Presets for images")
    raise ConfigError(f"model.preset={preset}: must be {WAYS}. {names}")


def image_presets(library: Any) -> list[str]:
    """Return the names of the presets that come with a preprocessing of images."""
    kinds = library.layers.ImageConverter.__subclasses__()
    return sorted({name for kind in kinds for name in kind.presets})


def _require_known(place: str, library: Any) -> type[keras.Model]:
    """Return the class of a preset's backbone. Raises ConfigError if a file names any other code
    than layers and networks of keras-hub and Keras.
    """
    from keras_hub.src.utils import preset_utils

    if not preset_utils.check_file_exists(place, NETWORK):
        raise FileNotFoundError(f"{NETWORK} is not there, or the hub does not answer")
    for file in (NETWORK, PREPROCESSING):
        if preset_utils.check_file_exists(place, file):
            for named in _classes(json.loads(_text(preset_utils.get_file(place, file)))):
                _require_class(named, f"{place}/{file}", library)
    kind: type[keras.Model] = preset_utils.get_preset_loader(place).check_backbone_class()
    if not issubclass(kind, library.models.Backbone):
        raise ConfigError(f"model.preset={place}: {kind.__name__} is no backbone of keras-hub")
    return kind


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _classes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield what a JSON file would have built: every mapping with a class, however deep."""
    if isinstance(value, dict):
        if "class_name" in value or "registered_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _classes(inner)


def _require_class(named: dict[str, Any], file: str, library: Any) -> None:
    registered = str(named.get("registered_name") or named.get("class_name"))
    module = str(named.get("module") or "")
    kind = keras.saving.get_registered_object(registered)
    if kind is not None:
        trusted = kind.__module__.startswith((f"{library.__name__}.", "keras."))
    else:  # Keras finds its own by their module
        trusted = module == "keras" or module.startswith("keras.")
    if not trusted or str(named.get("class_name")) in ("Lambda", "__lambda__"):
        raise ConfigError(
            f"{file} names {module and module + '.'}{named.get('class_name')}, which is no layer "
            "or network of keras-hub, and is not loaded"
        )


def _preprocessing(place: str, library: Any) -> Preprocessing | None:
    """Return the preset's preprocessing; None if it has none."""
    from keras_hub.src.utils import preset_utils

    try:
        converter = library.layers.ImageConverter.from_preset(place)
    except FileNotFoundError:
        converter = None
    if converter is not None:
        return of_converter(converter)
    if preset_utils.check_file_exists(place, TRANSFORMERS):
        return of_transformers(Path(preset_utils.get_file(place, TRANSFORMERS)))
    return None


def _unreadable(preset: str, place: str, error: Exception, library: Any) -> str:
    """Say that a preset cannot be loaded, and how to bring it here."""
    reason = str(error).strip().partition("\n")[0]
    if Path(place).is_dir():
        return f"model.preset={preset} is no preset of keras-hub for images: {reason}"
    handle = library.models.Backbone.presets.get(preset, {}).get("kaggle_handle", preset)
    bring = (
        f"hf download {preset.removeprefix('hf://')} --local-dir FOLDER"
        if preset.startswith("hf://")
        else f'python -c "import kagglehub as k; print(k.model_download('
        f"'{handle.removeprefix('kaggle://')}'))\""
    )
    return (
        f"the preset {preset} could not be had: {reason}. Without a network, get its folder on "
        f"another machine ({bring}), carry it here, and say model.preset=FOLDER"
    )
