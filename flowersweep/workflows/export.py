"""From a registered model to a folder for other programs: the network in their runtime's format,
and beside it what they must know to use it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import flowersweep
from flowersweep.config.schema import Config
from flowersweep.errors import ConfigError, TrackingError, did_you_mean
from flowersweep.tracking import registry
from flowersweep.util.files import move, write_bytes
from flowersweep.workflows.export_texts import program, readme
from flowersweep.workflows.predict import chosen_run

CONVERTER = Path(flowersweep.__file__).parent / "models" / "convert.py"


@dataclass(frozen=True)
class Format:
    """A form in which a network can be written."""

    keras: str  # what Keras calls it
    file: str  # its name in the folder
    packages: tuple[str, ...] = ()  # that Keras needs to write it


EXPORT_FORMATS = {
    "keras": Format("keras", "model.keras"),
    "saved_model": Format("tf_saved_model", "saved_model"),
    "onnx": Format("onnx", "model.onnx", ("tf2onnx", "onnx")),
    "litert": Format("litert", "model.tflite"),
    "openvino": Format("openvino", "model.xml", ("openvino",)),
}


def export(config: Config) -> Path:
    """Write a registered model in ``config.format`` into the new folder ``config.output``.

    What is written takes images in 0..255 and gives probabilities. ``model.json`` beside it has the
    class names, the size of the images and how they are resized.

    Returns:
        The folder.

    Raises:
        ConfigError: There is no such format, a package for it is missing, or the folder is not
            empty.
        TrackingError: There is no such model, or it cannot be converted.
    """
    name = config.format or "saved_model"
    format = _require_format(name)
    folder = Path(config.output or f"exported-{name}")
    with _new_folder(folder) as draft, TemporaryDirectory(prefix="flowersweep-") as scratch:
        run, dir = chosen_run(config), Path(config.dir)
        facts = registry.model_metadata(config.tracking, dir, run=run)
        network = registry.network_file(config.tracking, dir, Path(scratch), run=run)
        size = _convert(network, format, draft / format.file)
        description = _describe(facts, size, format=name, run=run)
        description["packages"] = _packages(network, name)
        description["network_sha256"] = hashlib.sha256(network.read_bytes()).hexdigest()
        classes = "".join(f"{name}\n" for name in description["classes"])
        texts = {
            "model.json": json.dumps(description, indent=1, ensure_ascii=False) + "\n",
            "classes.txt": classes,
            "README.md": readme(description),
            "classify.py": program(description),
        }
        for file, text in texts.items():
            write_bytes(draft / file, text.encode(), private=False)
    return folder


def _require_format(name: str) -> Format:
    if name not in EXPORT_FORMATS:
        raise ConfigError(f"format={name}: {did_you_mean(name, EXPORT_FORMATS, 'export writes')}")
    missing = [package for package in EXPORT_FORMATS[name].packages if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"format={name} needs {' and '.join(missing)}: pip install 'flowersweep[export]'"
        )
    return EXPORT_FORMATS[name]


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that gets the name ``folder`` when it is complete.

    Raises:
        ConfigError: There is something of that name, or it cannot be written there.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigError(f"output={folder}: is there already. Name a new folder: output=PATH")
    if not folder.parent.is_dir():
        raise ConfigError(f"output={folder}: must be a new folder in one that exists")
    try:
        draft = TemporaryDirectory(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent)
    except OSError as error:
        raise ConfigError(
            f"output={folder}: no folder can be made there ({error.strerror}). Choose another "
            "place: output=PATH"
        ) from error
    with draft:
        inside = Path(draft.name) / "folder"
        inside.mkdir()
        yield inside
        move(inside, folder)


def _convert(network: Path, format: Format, target: Path) -> list[int]:
    """Convert in a process of its own; return height and width of the images.

    Raises:
        TrackingError: Keras refuses the network, or cannot convert it.
    """
    # TensorFlow would take an accelerator, and writes a file alike without one
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-P", str(CONVERTER), str(network), format.keras, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise TrackingError(f"the model cannot be written as {format.file}: {reason}")
    size: list[int] = json.loads(done.stdout.strip().splitlines()[-1])
    return size


def _packages(network: Path, format: str) -> list[str]:
    """Return what must be installed besides the runtime to open an exported network."""
    with ZipFile(network) as file:
        of_hub = format == "keras" and b'"keras_hub' in file.read("config.json")
    return ["keras-hub"] if of_hub else []


def _describe(facts: dict[str, Any], size: list[int], *, format: str, run: str) -> dict[str, Any]:
    """Return what a program must know of the network: ``model.json``."""
    classes = [str(name) for name in facts["classes"]]
    return {
        "format": format,
        "file": EXPORT_FORMATS[format].file,
        "classes": classes,
        "classes_sha256": hashlib.sha256("\n".join(classes).encode()).hexdigest(),
        "image_size": size,
        "resize": facts["data"].get("resize", "stretch"),
        "input": "float32 (n, height, width, 3): RGB, 0 to 255, not scaled",
        "output": "float32 (n, classes): calibrated probabilities, which add up to 1",
        "study": facts.get("study"),
        "run": run,
    }
