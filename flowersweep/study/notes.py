"""The user's notes about a study: one text file in its folder."""

from __future__ import annotations

from pathlib import Path

from flowersweep.errors import StudyError
from flowersweep.util.files import write_bytes

NAME = "notes.txt"
LARGEST = 100_000  # bytes


def read_notes(study: Path) -> str:
    """Return the notes; empty if there are none."""
    try:
        with (study / NAME).open("rb") as file:
            return file.read(LARGEST).decode(errors="replace")
    except FileNotFoundError:
        return ""


def write_notes(study: Path, text: str) -> None:
    """Replace the notes, whole or not at all. Raises StudyError if they are too long."""
    content = text.replace("\r\n", "\n").encode()
    if len(content) > LARGEST:
        raise StudyError(f"the notes have {len(content)} bytes; {LARGEST} fit")
    write_bytes(study / NAME, content)
