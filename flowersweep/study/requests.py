"""What a user asks of a running study: one small file a request, which its loop takes.

Whoever asks need not hold the study's lock. The loop journals what it does about a request, so a
resumed study knows it too.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowersweep.util.files import make_folder, write_bytes

FOLDER = "requests"
STOP_TRIAL, STOP_STUDY, ADD_TRIAL = KINDS = ("stop_trial", "stop_study", "add_trial")
LARGEST = 100_000  # bytes of a file


@dataclass(frozen=True)
class Request:
    """A request: to stop a trial or the study, or to try a point next."""

    kind: str
    trial: int | None = None
    params: dict[str, Any] = field(default_factory=dict)


def write_request(study: Path, request: Request) -> str:
    """Leave a request in the folder of a study; return its name."""
    make_folder(study / FOLDER, 0o700)
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    write_bytes(study / FOLDER / f"{name}.json", json.dumps(asdict(request)).encode())
    return name


def waiting_requests(study: Path) -> Iterator[tuple[Path, Request | None]]:
    """Yield the requests that were not taken yet, the oldest first; None for a damaged file."""
    for path in sorted((study / FOLDER).glob("*.json")):
        yield path, _read(path)


def _read(path: Path) -> Request | None:
    try:
        if path.stat().st_size > LARGEST:
            return None
        request = Request(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    trial, params = request.trial, request.params
    sound = request.kind in KINDS and isinstance(params, dict)
    return request if sound and (trial is None or type(trial) is int) else None
