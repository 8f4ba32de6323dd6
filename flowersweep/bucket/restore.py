"""From a bucket to the folder of a study."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from flowersweep.bucket.manifest import Content, Manifest, content_of, newest, part_name
from flowersweep.bucket.store import Bucket
from flowersweep.errors import BucketError, StudyError
from flowersweep.study.journal import lock_holder
from flowersweep.util.files import atomic_write, move

log = logging.getLogger(__name__)

AT_ONCE = 8  # downloads
TRIES = 5  # the owner may replace what is being read


def restore(bucket: Bucket, folder: Path) -> bool:
    """Make the folder of a study what the bucket holds, if that is further.

    The folder is replaced as a whole, so that a kill leaves the old one, or none.

    Returns:
        Whether the folder was written.

    Raises:
        StudyError: Folder and bucket hold studies that went different ways.
        BucketError: The bucket does not answer, or is damaged.
    """
    if lock_holder(folder) is not None:
        return False  # this machine runs it and is further than the bucket
    for _ in range(TRIES):
        if (manifest := newest(bucket, bucket.sizes())) is None:
            return False
        try:
            journal = read_journal(bucket, manifest)
            if not is_behind(folder, journal):
                return False
            _replace(bucket, manifest, journal, folder)
        except FileNotFoundError:
            continue
        log.info("the study was restored from the bucket: %d bytes of journal", len(journal))
        return True
    raise BucketError("an object that the study in the bucket is made of is not there any more")


def read_journal(bucket: Bucket, manifest: Manifest) -> bytes:
    """Return the journal in a bucket. Raises BucketError if it is damaged."""
    parts = []
    for number, part in enumerate(manifest.journal):
        text = bucket.read(part.key(part_name(number)))
        if content_of(BytesIO(text)) != part:
            raise _damaged(part_name(number))
        parts.append(text)
    return b"".join(parts)


def is_behind(folder: Path, journal: bytes) -> bool:
    """Say whether the journal in a folder is a beginning of this one.

    Raises:
        StudyError: Neither is a beginning of the other.
    """
    path = folder / "journal.jsonl"
    own = path.read_bytes() if path.exists() else b""
    own = own[: own.rfind(b"\n") + 1]
    if own.startswith(journal):
        return False
    if journal.startswith(own):
        return True
    raise StudyError(
        f"the study in {folder} and the one in the bucket went different ways: another machine "
        "went on from an earlier copy. To go on with the bucket's, move this folder away. To keep "
        "this one, use another study=NAME or sync.to=URL"
    )


def _replace(bucket: Bucket, manifest: Manifest, journal: bytes, folder: Path) -> None:
    dir = folder.parents[1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", suffix=".partial", dir=dir) as place:
        new, old = Path(place) / "new", Path(place) / "old"
        new.mkdir()

        def download(entry: tuple[str, Content]) -> None:
            name, content = entry
            with atomic_write(new / name, durable=False) as file:
                bucket.download(content.key(name), file)
            with (new / name).open("rb") as file:
                if content_of(file) != content:
                    raise _damaged(name)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(download, manifest.files.items()))
        with atomic_write(new / "journal.jsonl") as file:
            file.write(journal)
        if folder.exists():
            move(folder, old)
        move(new, folder)


def _damaged(name: str) -> BucketError:
    return BucketError(
        f"{name} in the bucket is not what was written there: it is damaged, or somebody else "
        "wrote it. Nothing was restored"
    )
