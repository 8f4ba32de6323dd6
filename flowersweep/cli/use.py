"""Verbs that use a registered model: predict with it, export it."""

from __future__ import annotations

from collections.abc import Sequence

from flowersweep.cli.hints import python
from flowersweep.config.schema import Config
from flowersweep.util.text import quantity


def predict(config: Config, overrides: Sequence[str]) -> int:
    """Write the predictions of a registered model for a folder of images, or for a split.

    Returns:
        Exit code: 1 if an image could not be read and ``on_error=fail``, else 0.
    """
    from flowersweep.session.progress import Progress
    from flowersweep.workflows.predict import predict as run

    progress = Progress(config.progress)
    try:
        written = run(config, overrides, progress.features)
    finally:
        progress.close()
    split = "" if config.images is not None else f" of {config.split}"
    rate = "" if written.rate is None else f" ({written.rate:.3g} images/s)"
    print(f"wrote {written.path}: {quantity(written.images, 'image')}{split}{rate}")
    if config.tta_views > 1:
        changed = quantity(written.changed, "label")
        print(f"{changed} changed by the views, against the image alone (tta_views=1)")
    if not written.broken:
        return 0
    print(f"{written.broken} could not be read, first {written.first_error}")
    return 1 if config.on_error == "fail" else 0


def export(config: Config, overrides: Sequence[str]) -> None:
    """Write a registered model for other programs: Keras, TensorFlow, ONNX, LiteRT or OpenVINO."""
    from flowersweep.workflows.export import export as run

    folder = run(config)
    print(f"wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    print(f"try it:              {python()} {folder / 'classify.py'} PHOTOGRAPH")
    print(f"how to call it:      {folder / 'README.md'}")
