"""Turn a folder of TFRecords into verified splits and batches of uint8 images.

This is the only package that imports TensorFlow.
"""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Discard what native code writes to standard error; exceptions still pass."""
    original, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(sink)


# TensorFlow only reads files here; the accelerators belong to JAX. On first use TensorFlow would
# take a whole TPU and all of a GPU's memory. No log level silences its messages at import.
with _silenced():
    import tensorflow as _tf

    for _kind in ("GPU", "TPU"):
        # The errors mean: already started, or no such kind of device.
        with contextlib.suppress(RuntimeError, ValueError, _tf.errors.OpError):
            _tf.config.set_visible_devices([], _kind)
