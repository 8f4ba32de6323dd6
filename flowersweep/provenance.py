"""Where numbers come from: the command, the code, the packages and the machine, as plain data for
the journal.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flowersweep.data.dataset import Dataset
from flowersweep.machine import describe_machine
from flowersweep.runtime import Runtime
from flowersweep.tracking.masking import masked_text

PACKAGES = (
    "flowersweep",
    "keras",
    "jax",
    "jaxlib",
    "tensorflow",
    "optuna",
    "mlflow",
    "numpy",
    "scikit-learn",
    "hydra-core",
)

TRAINING = ("keras", "jax", "jaxlib", "tensorflow", "numpy")  # of these, what is computed depends
# of this package, all that a trial is made of: it imports nothing else (tests/test_layers.py)
TRIAL = (
    "training",
    "evaluation",
    "models",
    "data",
    "config",
    "study",
    "runtime",
    "errors",
    "testing",
    "util",
)
LONGEST_DIFF = 256 << 10  # characters that are kept
MOST_NEW = 20  # files outside git that are shown with the changes
# The folder may be somebody else's: of its settings, git must obey none that runs a program, writes
# or fetches. Filters have names of their own, see `_filters_off`.
SAFE = (
    *("--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}", "-c", "safe.bareRepository=explicit"),
)
OFFLINE = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")


def provenance(
    overrides: tuple[str, ...],
    runtime: Runtime,
    dataset: Dataset,
    *,
    code: str,
    changes: str | None = None,
) -> dict[str, Any]:
    """Describe what a study was started with.

    Git facts are None outside a checkout; ``changes`` are those that `diff` returns.
    """
    here = commit()
    return {
        "command": shlex.join(["python", "-m", "flowersweep", *overrides]),
        "overrides": [*overrides],
        "git_commit": here,
        "git_dirty": bool(_git("status", "--porcelain", "--ignore-submodules=all"))
        if here
        else None,
        "git_diff": None if changes is None else hashlib.sha256(changes.encode()).hexdigest()[:16],
        "code": code,
        "versions": versions(),
        "python": platform.python_version(),
        "host": platform.node(),
        **describe_machine(),
        "platform": runtime.platform,
        "device_kind": runtime.device_kind,
        "replicas": runtime.replicas,
        "data": {
            "name": dataset.name,
            "dir": masked_text(dataset.dir),
            "digest": dataset.digest,
            "held_out_digest": dataset.held_out_digest,
            "image_size": list(dataset.image_size),
            "classes": list(dataset.classes),
            "counts": {name: len(split) for name, split in dataset.splits.items()}
            | {"tune": len(dataset.tune), "holdout": len(dataset.holdout)}
            | ({"extra": len(dataset.extra.rows)} if dataset.extra.remarks else {}),
            "cut": list(dataset.cut),
            "extra": [*map(masked_text, dataset.extra.remarks)],
            "pseudo": dataset.pseudo.remark if dataset.pseudo else None,
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that count, of those that are installed."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def commit() -> str | None:
    """Return the git commit that is checked out here; None outside a checkout."""
    return _git("rev-parse", "HEAD")


def code(trusted: Sequence[str] = (), own: Sequence[str] = ()) -> str:
    """Return a digest of the code that trains, 16 hex digits.

    The user's modules that it trusts are among it, and the digests of functions of a notebook
    (``own``).
    """
    digest = hashlib.sha256()
    for module in ("flowersweep", *sorted({name.partition(".")[0] for name in trusted})):
        for name, path in _sources(module):
            if module == "flowersweep" and name.split("/")[1].removesuffix(".py") not in TRIAL:
                continue
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    digest.update("\0".join(own).encode())
    return digest.hexdigest()[:16]


def _sources(module: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(module)
    for folder in sorted(spec.submodule_search_locations or []) if spec else []:
        yield from (
            (path.relative_to(Path(folder).parent).as_posix(), path)
            for path in sorted(Path(folder).rglob("*.py"))
        )
    if spec and spec.origin and not spec.submodule_search_locations and spec.origin.endswith(".py"):
        yield f"{module}.py", Path(spec.origin)


def diff() -> str | None:
    """Return how the code here differs from its git commit, new Python and YAML files included;
    None if it does not, or is no checkout.
    """
    changes = [_git("diff", "HEAD", *PLAIN, strip=False) or ""]
    new = (
        _git("ls-files", "--others", "--exclude-standard", "--", "*.py", "*.yaml") or ""
    ).splitlines()
    for path in new[:MOST_NEW]:
        words = ("diff", "--no-index", *PLAIN, "--", os.devnull, path)
        changes.append(_git(*words, strip=False, differs=True) or "")
    text = "".join(changes)
    if len(new) > MOST_NEW:
        text += f"# {len(new) - MOST_NEW} more new files are not shown\n"
    if len(text) > LONGEST_DIFF:
        text = f"{text[:LONGEST_DIFF]}\n# cut off after {LONGEST_DIFF} of {len(text)} characters\n"
    return text or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str, strip: bool = True, differs: bool = False) -> str | None:
    """Return what git says; None where it fails.

    With ``differs`` it says by exit code 1 that there is a difference.
    """
    text = _run_git(*_filters_off(), *words, differs=differs)
    return (text.strip() if strip and text else text) or None


def _filters_off() -> tuple[str, ...]:
    """Return the options that switch off the programs that git's settings name as filters."""
    keys = _run_git("config", "--name-only", "-z", "--get-regexp", r"^filter\.") or ""
    names = {key.rpartition(".")[0] for key in keys.split("\0") if key}
    off = [f"{name}.{key}" for name in sorted(names) for key in ("clean=", "smudge=", "process=")]
    off += [f"{name}.required=false" for name in sorted(names)]
    return tuple(word for setting in off for word in ("-c", setting))


def _run_git(*words: str, differs: bool = False) -> str | None:
    try:
        run = subprocess.run(
            ["git", *SAFE, *words],
            env={**os.environ, **OFFLINE},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout if run.returncode in (0, int(differs)) else None
