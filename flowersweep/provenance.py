"""Where numbers come from: the command, the code, the packages and the machine, as plain data for the journal."""

from __future__ import annotations

import platform
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flowersweep.data.dataset import Dataset
from flowersweep.runtime import Runtime

PACKAGES = ("flowersweep", "keras", "jax", "jaxlib", "tensorflow", "optuna", "mlflow", "numpy", "scikit-learn", "hydra-core")


def provenance(overrides: tuple[str, ...], runtime: Runtime, dataset: Dataset) -> dict[str, Any]:
    """Describe what a study was begun with. Git facts are None outside a checkout."""
    commit = _git("rev-parse", "HEAD")
    return {
        "command": shlex.join(["python", "-m", "flowersweep", *overrides]),
        "git_commit": commit,
        "git_dirty": bool(_git("status", "--porcelain")) if commit else None,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "host": platform.node(),
        "platform": runtime.platform,
        "device_kind": runtime.device_kind,
        "replicas": runtime.replicas,
        "data": {
            "name": dataset.name,
            "dir": dataset.dir,
            "digest": dataset.digest,
            "image_size": list(dataset.image_size),
            "classes": list(dataset.classes),
            "counts": {name: len(split) for name, split in dataset.splits.items()}
            | {"tune": len(dataset.tune), "report": len(dataset.report)},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str | None:
    try:
        run = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() or None if run.returncode == 0 else None
