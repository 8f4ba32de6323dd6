"""Buckets: a folder of this machine, or an object store behind fsspec. Both have the same calls."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from flowersweep.errors import BucketError, ConfigError, FlowersweepError
from flowersweep.util.files import atomic_write, write_bytes

CHUNK = 8 << 20  # bytes
# seconds after which a request fails; without them a silent server holds a thread for minutes
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 20,
            "retries": {"max_attempts": 0},
        }
    },
    "gs": {"requests_timeout": 20},
}


class Bucket(Protocol):
    """Objects by key. A missing object raises FileNotFoundError, all other trouble BucketError."""

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every object by key."""

    def read(self, key: str) -> bytes:
        """Return an object."""

    def download(self, key: str, file: IO[bytes]) -> None:
        """Write an object of any size into a file."""

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, whole or not at all."""

    def create(self, key: str, content: bytes) -> bool:
        """Write a small object unless there is one; return whether it was written."""

    def upload(self, key: str, file: IO[bytes], on_chunk: Callable[[], None]) -> None:
        """Write an object of any size from a file. ``on_chunk`` is called now and then."""

    def modified(self, key: str) -> float:
        """Return when an object was written, in seconds of the bucket's own clock."""

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects."""


def open_bucket(url: str, study: str) -> Bucket:
    """Return the part of the bucket at ``url`` that belongs to one study.

    Raises:
        ConfigError: The package for this kind of bucket is not installed.
    """
    protocol, _, path = url.partition("://")
    path = f"{path.rstrip('/')}/{study}"
    return Folder(Path(path)) if protocol == "file" else ObjectStore(protocol, path)


class Folder:
    """A bucket in a folder of this machine. No link in it is followed."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def _path(self, key: str) -> Path:
        path, root = self._root / key, self._root.resolve()
        if (root / key).resolve() != root / key or not (root / key).is_relative_to(root):
            raise BucketError(f"{path} is a link, or lies outside of the bucket: remove it")
        return path

    def sizes(self) -> dict[str, int]:
        with _explained(str(self._root)):
            return {
                str(path.relative_to(self._root)): path.stat().st_size
                for path in self._root.rglob("*")
                if path.is_file() and not path.is_symlink() and path.suffix != ".partial"
            }

    def read(self, key: str) -> bytes:
        with _explained(str(self._root), missing=True):
            return self._path(key).read_bytes()

    def download(self, key: str, file: IO[bytes]) -> None:
        with _explained(str(self._root), missing=True), self._path(key).open("rb") as source:
            shutil.copyfileobj(source, file, CHUNK)

    def write(self, key: str, content: bytes) -> None:
        with _explained(str(self._root)):
            write_bytes(self._path(key), content)

    def create(self, key: str, content: bytes) -> bool:
        with _explained(str(self._root)):
            self._path(key).parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._path(key).open("xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
        return True

    def upload(self, key: str, file: IO[bytes], on_chunk: Callable[[], None]) -> None:
        with _explained(str(self._root)), atomic_write(self._path(key)) as target:
            _copy(file, target, on_chunk)

    def modified(self, key: str) -> float:
        with _explained(str(self._root), missing=True):
            return self._path(key).stat().st_mtime

    def remove(self, keys: Iterable[str]) -> None:
        with _explained(str(self._root)):
            for key in keys:
                self._path(key).unlink(missing_ok=True)


class ObjectStore:
    """A bucket behind fsspec, which finds credentials as its protocol's own tools do."""

    def __init__(self, protocol: str, path: str) -> None:
        self._url, self._path = f"{protocol}://{path}", path
        try:
            import fsspec

            kind = fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            raise ConfigError(
                f"sync.to={protocol}://... needs a package that is not installed: "
                "pip install 'flowersweep[bucket]'"
            ) from error
        with _explained(self._url):
            # no caches: other machines write here too
            self._files = kind(
                **OPTIONS[protocol], use_listings_cache=False, skip_instance_cache=True
            )
            self._files.retries = 2  # who calls tries again, and says so

    def sizes(self) -> dict[str, int]:
        with _explained(self._url):
            self._files.invalidate_cache()
            entries = self._files.find(self._path, detail=True)
            return {
                name[len(self._path) + 1 :]: int(entry["size"]) for name, entry in entries.items()
            }

    def read(self, key: str) -> bytes:
        with _explained(self._url, missing=True):
            return bytes(self._files.cat_file(f"{self._path}/{key}"))

    def download(self, key: str, file: IO[bytes]) -> None:
        with (
            _explained(self._url, missing=True),
            self._files.open(f"{self._path}/{key}", "rb") as source,
        ):
            shutil.copyfileobj(source, file, CHUNK)

    def write(self, key: str, content: bytes) -> None:
        with _explained(self._url):
            self._files.pipe_file(f"{self._path}/{key}", content)

    def create(self, key: str, content: bytes) -> bool:
        with _explained(self._url):
            try:
                self._files.pipe_file(f"{self._path}/{key}", content, mode="create")
            except Exception:
                # each store refuses in its own way
                if self.sizes().get(key) is None:
                    raise
            # the store may have taken the first of two attempts, and refused the second
            return bytes(self._files.cat_file(f"{self._path}/{key}")) == content

    def upload(self, key: str, file: IO[bytes], on_chunk: Callable[[], None]) -> None:
        with _explained(self._url), self._files.open(f"{self._path}/{key}", "wb") as target:
            _copy(file, target, on_chunk)

    def modified(self, key: str) -> float:
        with _explained(self._url, missing=True):
            self._files.invalidate_cache()
            return float(self._files.modified(f"{self._path}/{key}").timestamp())

    def remove(self, keys: Iterable[str]) -> None:
        paths = [f"{self._path}/{key}" for key in keys]
        with _explained(self._url), contextlib.suppress(FileNotFoundError):
            if paths:
                self._files.rm(paths)


def _copy(source: IO[bytes], target: IO[bytes], on_chunk: Callable[[], None]) -> None:
    while chunk := source.read(CHUNK):
        target.write(chunk)
        on_chunk()


@contextlib.contextmanager
def _explained(where: str, *, missing: bool = False) -> Iterator[None]:
    """Turn what a store raises, which has many types, into a BucketError that names it.

    Args:
        missing: Let FileNotFoundError through: the object, and not the bucket, may be missing.
    """
    try:
        yield
    except FlowersweepError:
        raise
    except Exception as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BucketError(f"{where} does not answer or refuses: {reason}") from error
