"""Turn a folder of TFRecords into verified splits and batches of uint8 images.

This is the only package that imports TensorFlow.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator

# what TensorFlow says of accelerators and instruction sets; no log level silences all of it
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::|[IW]\d{4} [\d:.]+ +\d+ "
    rb"|E\d{4} .* cuda_\w+\.cc:|To enable the following instructions: "
)


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Hold back standard error, then pass on what is not TensorFlow's noise."""
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)


# TensorFlow only reads files here; the accelerators belong to JAX. On first use TensorFlow would
# take a whole TPU and all of a GPU's memory.
with _without_noise():
    import tensorflow as _tf

    for _kind in ("GPU", "TPU"):
        # The errors mean: already started, or no such kind of device.
        with contextlib.suppress(RuntimeError, ValueError, _tf.errors.OpError):
            _tf.config.set_visible_devices([], _kind)
