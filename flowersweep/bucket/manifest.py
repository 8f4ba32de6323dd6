"""The manifest of a study in a bucket: which objects make up its journal and its files.

Objects are named after their content and never change. A study in a bucket changes only when its
manifest is replaced, so a bucket always holds a state that the study was in. Whoever can write a
bucket can write a manifest, so it names nothing but a study's own files, and says no keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import IO

from flowersweep.bucket.store import CHUNK, Bucket
from flowersweep.errors import BucketError

FORMAT = 1  # of the manifest
# files of a study that travel; what a report writes can be written again, locks and cursors belong
# to a machine
TRAVELS = re.compile(
    r"code\.diff|left_out\.csv|ensemble\.json|checkpoints/[0-9]+\.npz|trials/[0-9]+/[a-z]+\.(npz|svg|jpg|json)"
)
KEY = re.compile(
    r"(journal|checkpoints|trials|code|left_out|ensemble)\b.*"
)  # of objects with content
MANIFEST = re.compile(r"manifest-(\d{6})\.json")


@dataclass(frozen=True)
class Content:
    """What an object holds."""

    bytes: int
    sha256: str

    def key(self, name: str) -> str:
        """Return the key of an object of this name and content."""
        return f"{name}.{self.sha256[:32]}"


@dataclass(frozen=True)
class Manifest:
    """A state of a study."""

    journal: list[Content] = field(default_factory=list)  # its parts, in order
    files: dict[str, Content] = field(default_factory=dict)  # by path in the study's folder

    @property
    def objects(self) -> dict[str, Content]:
        """The objects that make up the study, by key."""
        parts = {part.key(part_name(n)): part for n, part in enumerate(self.journal)}
        return parts | {content.key(name): content for name, content in self.files.items()}

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()


def part_name(number: int) -> str:
    """Return the name of a part of the journal, which its key begins with."""
    return f"journal/{number:06d}"


def from_json(text: bytes) -> Manifest:
    """Return the manifest that somebody wrote.

    Raises:
        BucketError: It is none of this version, or names something that is no file of a study.
    """
    try:
        said = json.loads(text)
        if said["format"] > FORMAT:
            raise BucketError(
                f"the bucket has format {said['format']}, and this version reads up to {FORMAT}. "
                "Use `pip install -U flowersweep`"
            )
        manifest = Manifest(
            [_content(part) for part in said["journal"]],
            {str(name): _content(entry) for name, entry in said["files"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BucketError(f"the manifest in the bucket cannot be read: {error!r}") from error
    if foreign := [name for name in manifest.files if not TRAVELS.fullmatch(name)]:
        raise BucketError(
            f"the manifest in the bucket names {foreign[0]!r}, which is no file of a study. "
            "Nothing was written. Use a bucket that only flowersweep writes"
        )
    return manifest


def _content(entry: dict[str, object]) -> Content:
    size, digest = entry["bytes"], entry["sha256"]
    if type(size) is not int or size < 0 or not re.fullmatch("[0-9a-f]{64}", str(digest)):
        raise ValueError(entry)
    return Content(size, str(digest))


def content_of(file: IO[bytes]) -> Content:
    """Return the size and digest of a file from its start; leave it at its start."""
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    file.seek(0)
    return Content(size, digest.hexdigest())


def newest(bucket: Bucket, keys: Iterable[str]) -> Manifest | None:
    """Return the manifest of the last owner that wrote one; None if there is none."""
    manifests = sorted(key for key in keys if MANIFEST.fullmatch(key))
    return from_json(bucket.read(manifests[-1])) if manifests else None
