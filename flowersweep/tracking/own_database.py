"""The project's own MLflow database: ``mlflow.db`` in the folder of results."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from flowersweep.util.files import move

log = logging.getLogger(__name__)

PLACE = "flowersweep.artifacts"  # tag of an experiment: where the files of our database were
# The columns of MLflow's tables that hold addresses of files.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def own_address(dir: Path) -> str:
    """Return the address of the database ``mlflow.db`` in ``dir``."""
    return f"sqlite:///{dir.resolve()}/mlflow.db"


def relocate(dir: Path) -> None:
    """Make our own database name the files beside it, after the folder was moved or copied.

    MLflow stores absolute addresses. Only those of experiments that we created are changed.
    """
    here = artifacts_address(dir)
    with closing(sqlite3.connect(dir / "mlflow.db", timeout=20)) as database, database:
        rows = database.execute(
            "SELECT DISTINCT value FROM experiment_tags WHERE key = ? AND value != ?", (PLACE, here)
        ).fetchall()
        for (old,) in rows:
            log.warning("the folder was moved: MLflow's files are in %s now", dir / "artifacts")
            for table, column in ADDRESSES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old) + 1, f"{old}/"),
                )
        database.execute("UPDATE experiment_tags SET value = ? WHERE key = ?", (here, PLACE))


def artifacts_address(dir: Path) -> str:
    """Return the address of the folder with the files of our own database."""
    return (dir.resolve() / "artifacts").as_uri()


def make_database(path: Path) -> None:
    """Create MLflow's tables in another file, then move it to ``path``.

    A killed migration can never resume, so it must not leave a broken database.
    """
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    log.info("making the MLflow database %s (once, up to 15 s)", path)
    partial = path.with_suffix(".partial")
    for leftover in path.parent.glob(f"{partial.name}*"):
        leftover.unlink()
    engine = create_sqlalchemy_engine_with_retry(f"sqlite:///{partial.resolve()}")
    _initialize_tables(engine)
    engine.dispose()
    move(partial, path)
