"""A network on this machine's processor: OpenVINO runs it, if it is there and can."""

from __future__ import annotations

import logging
import threading
from functools import lru_cache
from importlib.util import find_spec

import jax
import keras
import numpy as np
from jax.extend.core import ClosedJaxpr

from flowersweep.models.cpu.lowering import lower_for_cpu
from flowersweep.util.cores import usable_cores

log = logging.getLogger(__name__)

# of the images that one core takes together: few enough for its cache
PIXELS, MOST = 150_000, 4


@lru_cache(maxsize=1)
def has_openvino() -> bool:
    """Return whether OpenVINO is installed, for this kind of processor."""
    return find_spec("openvino") is not None


class CpuNetwork:
    """A Keras model from images (n, H, W, 3) to vectors (n, D), compiled for the processor.

    A core takes a few images at a time, always as many, and by itself. So what it makes of an
    image is the same, bit for bit, whatever batch it is in and however many cores there are.
    """

    def __init__(self, model: keras.Model) -> None:
        """Compile a model.

        Raises:
            NotImplementedError: It has an operation that is not translated.
            RuntimeError: OpenVINO refuses it.
        """
        import openvino

        from flowersweep.models.cpu.translation import translate

        self.input_shape, self.output_shape = model.input_shape, model.output_shape
        height, width = self.input_shape[1:3]
        self._size = max(1, min(MOST, PIXELS // (height * width)))
        cores = len(usable_cores())
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # it would take bfloat16 where the processor can
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": False,  # other processes may compute at the same time
        }
        compiled = openvino.Core().compile_model(translate(self._traced(model)), "CPU", settings)
        self._queue = openvino.AsyncInferQueue(compiled)
        self._alone = threading.Lock()

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (n, D) of images in 0..255, of any number n."""
        rows = np.empty((len(images), self.output_shape[-1]), np.float32)

        def keep(request: object, first: int) -> None:
            some = rows[first : first + self._size]
            some[:] = request.get_output_tensor(0).data[: len(some)]  # type: ignore[attr-defined]

        with self._alone:
            self._queue.set_callback(keep)
            try:
                for first in range(0, len(images), self._size):
                    some = np.asarray(images[first : first + self._size], np.float32)
                    missing = self._size - len(some)
                    full = np.pad(some, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else some
                    self._queue.start_async({0: full}, first)
            finally:
                self._queue.wait_all()
        return rows

    def _traced(self, model: keras.Model) -> ClosedJaxpr:
        trainable = [v.value for v in model.trainable_variables]
        rest = [v.value for v in model.non_trainable_variables]
        images = np.zeros((self._size, *model.input_shape[1:]), np.float32)
        return jax.make_jaxpr(
            lambda images: model.stateless_call(trainable, rest, images, training=False)[0]
        )(images)


def compile_for_cpu(model: keras.Model) -> CpuNetwork | None:
    """Return a model as OpenVINO runs it; None where it is not installed or cannot run it."""
    if not has_openvino():
        return None
    try:
        return CpuNetwork(model)
    except (ImportError, NotImplementedError, RuntimeError) as error:
        log.info("%s is run by JAX: %s", model.name, error)
        return None


def predictor(model: keras.Model) -> keras.Model | CpuNetwork:
    """Return what runs a model fast on this machine, with its `predict_on_batch`."""
    if keras.backend.backend() != "jax" or jax.default_backend() != "cpu":
        return model
    return compile_for_cpu(model) or lower_for_cpu(model)
