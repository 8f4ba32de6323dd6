"""What lies beside an exported model for people: a README, and a program that calls the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RESIZE = {  # how Pillow brings an image to a size, as training does
    "stretch": "image.resize((width, height), Image.Resampling.BILINEAR)",
    "crop": "ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)",
    "pad": "ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR)",
}
PACKAGES = {  # what opens a model of a format
    "keras": "keras",
    "saved_model": "tensorflow",
    "onnx": "onnxruntime",
    "litert": "ai-edge-litert",
    "openvino": "openvino",
}
_CALL = {  # import; load as `model`; how `images` become `probabilities`
    "keras": (
        "import keras",
        'keras.models.load_model(HERE / "model.keras")',
        "model.predict(images, verbose=0)",
    ),
    "saved_model": (
        "import tensorflow as tf",
        'tf.saved_model.load(str(HERE / "saved_model"))',
        "model.serve(images).numpy()",
    ),
    "onnx": (
        "import onnxruntime",
        'onnxruntime.InferenceSession(HERE / "model.onnx")',
        'model.run(None, {"images": images})[0]',
    ),
    "litert": (
        "from ai_edge_litert.interpreter import Interpreter",
        'Interpreter(str(HERE / "model.tflite"))',
        'model.get_signature_runner()(images=images)["output_0"]',
    ),
    "openvino": (
        "import openvino",
        # else bfloat16 where the processor has it
        'openvino.compile_model(HERE / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        "model(images)[0]",
    ),
}


def readme(description: Mapping[str, Any]) -> str:
    """Return the text of ``README.md`` for what ``model.json`` says."""
    (height, width), classes = description["image_size"], len(description["classes"])
    packages = " ".join(_packages(description))
    return f"""# An image classifier of {classes} classes

    pip install {packages} numpy pillow
    python classify.py photograph.jpg another.png

- `{description["file"]}` takes float32 (n, {height}, {width}, 3): RGB from 0 to 255, not scaled.
  It gives float32 (n, {classes}): probabilities, in the order of `classes.txt`.
- Images are resized as in training: {description["resize"]}. `classify.py` shows how.
- `model.json` has the same for programs: names, sizes and where the model comes from.
- Training decodes with TensorFlow. Pillow differs by a grey level or two.
"""


def program(description: Mapping[str, Any]) -> str:
    """Return the text of ``classify.py`` for what ``model.json`` says."""
    packages = " and ".join(_packages(description))
    library, load, call = _CALL[description["format"]]
    resized = _RESIZE.get(description["resize"], _RESIZE["stretch"])
    return f'''"""Print the class of each image: python classify.py FILE ...

It needs numpy, pillow and {packages}.
"""

import json
import sys
from pathlib import Path

import numpy as np
{library}
from PIL import Image, ImageOps

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
height, width = MODEL["image_size"]


def read(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return np.asarray({resized}, np.float32)


images = np.stack([read(path) for path in sys.argv[1:]])
model = {load}
probabilities = {call}
for path, row in zip(sys.argv[1:], probabilities):
    print(f"{{path}}\\t{{MODEL['classes'][row.argmax()]}}\\t{{row.max():.4f}}")
'''


def _packages(description: Mapping[str, Any]) -> list[str]:
    return [PACKAGES[description["format"]], *description.get("packages", [])]
