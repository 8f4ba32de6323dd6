"""A disk that loses its power: what of a folder is there after each moment of a command.

A recorder notes what each ``os.fsync`` makes safe: the bytes of a file, or the names in a folder.
A cut is rebuilt from these notes, at two extremes of what disks do:

- nothing is there that was not synced,
- every name is there, as if all renames and removals were safe at once, but no byte of a file that
  was not synced.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

Names = dict[str, int]  # what a folder holds: name and number of an inode
Build = Callable[[Path], None]


class PowerCuts:
    """The cuts that a command in ``folder`` can suffer, one before each of its syncs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cuts: list[tuple[str, Build]] = []
        self._bytes: dict[int, bytes] = {}  # what is safe of each file
        self._names: dict[int, Names] = {}  # and of each folder
        self._handles: dict[int, int] = {}  # kept open, so that no inode comes twice
        self._sync = os.fsync

    def record(self, patch: pytest.MonkeyPatch) -> None:
        """Watch ``os.fsync`` from now on."""
        patch.setattr(os, "fsync", self._noted)

    def close(self) -> None:
        """Let go of the files."""
        for handle in self._handles.values():
            os.close(handle)

    def _noted(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path != self.folder and self.folder not in path.parents:
            self._sync(handle)
            return
        self._cut(str(path.relative_to(self.folder)))
        about = os.fstat(handle)
        self._keep(path, about.st_ino)
        if stat.S_ISDIR(about.st_mode):
            self._names[about.st_ino] = self._listed(path)
        else:
            self._bytes[about.st_ino] = path.read_bytes()
        self._sync(handle)

    def _keep(self, path: Path, inode: int) -> None:
        if inode not in self._handles:
            self._handles[inode] = os.open(path, os.O_RDONLY)

    def _listed(self, path: Path) -> Names:
        names = {}
        for entry in os.scandir(path):
            names[entry.name] = entry.inode()
            self._keep(Path(entry.path), entry.inode())
        return names

    def _cut(self, before: str) -> None:
        """Note the two extremes of a cut now."""
        content, synced = dict(self._bytes), dict(self._names)
        every: dict[int, Names] = {}
        for parent, _, _ in os.walk(self.folder):
            every[os.stat(parent).st_ino] = self._listed(Path(parent))
        root = self.folder.stat().st_ino
        folders = {ino for ino, handle in self._handles.items() if _is_folder(handle)}
        for what, names in (("nothing else", synced), ("every name", every)):

            def build(target: Path, names: dict[int, Names] = names) -> None:
                _build(target, root, names, content, folders)

            self.cuts.append((f"before the sync of {before}, {what}", build))


def _is_folder(handle: int) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)


def _build(
    target: Path,
    inode: int,
    names: dict[int, Names],
    content: dict[int, bytes],
    folders: set[int],
) -> None:
    """Write the folder with this inode as it is after a cut."""
    target.mkdir(exist_ok=True)
    for name, child in names.get(inode, {}).items():
        if child in folders:
            _build(target / name, child, names, content, folders)
        else:
            (target / name).write_bytes(content.get(child, b""))
