"""The MLflow store: its address, a client for it, and the experiment of a study."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.own_database import (
    PLACE,
    artifacts_address,
    make_database,
    own_address,
    relocate,
)
from flowersweep.util.files import sync_above, sync_tree
from flowersweep.util.locks import take_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # MLflow repeats requests for four minutes, even a POST whose answer was lost. The shipper
    # searches for the result of a lost request first, then repeats it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


# Variables of MLflow's that have no effect here, and why.
UNUSED = {
    "MLFLOW_EXPERIMENT_ID": "an experiment is chosen by its name, MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_REGISTRY_URI": "models are registered in the store of the runs, tracking.uri",
}
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def quiet() -> None:
    """Keep MLflow silent, offline and away from pickles.

    The user's own environment variables win, except that pickles stay forbidden.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    # We report its exceptions in one line; it would also print pages of traceback and SQL.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def address(tracking: Tracking, dir: Path) -> str:
    """Return the tracking URI: the configured one, that of the environment, or our own database."""
    return tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or own_address(dir)


def require_address(tracking: Tracking, dir: Path) -> None:
    """Check the address of the store without a connection; name variables that are not used.

    Raises:
        TrackingError: No store could ever answer at this address.
    """
    for name, why in UNUSED.items():
        if os.environ.get(name):
            log.warning("%s is not used: %s", name, why)
    uri = address(tracking, dir)
    fault = None if uri == own_address(dir) else _fault(uri)
    if fault:
        key = "tracking.uri" if tracking.uri else "MLFLOW_TRACKING_URI"
        raise TrackingError(
            f"{key}={masked_text(uri)}: {fault}. Use http://HOST:PORT, sqlite:////PATH/mlflow.db "
            "or postgresql+psycopg://USER@HOST/DATABASE"
        )


def _fault(uri: str) -> str | None:
    """Say why no store can have this address; None if one can."""
    if remote(uri):
        try:
            parts = urlparse(uri)
            return None if parts.hostname and parts.port != 0 else "a server needs a host"
        except ValueError:
            return "the port is no number"
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
        if url.get_backend_name() not in DATABASES:
            return f"MLflow knows no database {url.get_backend_name()}"
        url.get_dialect().import_dbapi()
    except ArgumentError:  # also: no such dialect
        return "it is neither a server nor a database"
    except ImportError as error:
        return f"the driver is not installed ({error})"
    if url.get_backend_name() == "sqlite":
        file = Path((url.database or "").removeprefix("file:"))  # SQLite's own URI
        if not url.database or file.is_dir():
            return "a database needs a file"
        if not os.access(file.parent, os.W_OK):
            return f"{file.parent} is no folder that can be written"
    return None


def experiment_name(default: str | None) -> str | None:
    """Return the experiment of a new study: that of the environment, or ``default``."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or default


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Raise TrackingError for what the store, or the disk of its files, refuses."""
    quiet()
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise unreachable(uri, error) from error
    except OSError as error:
        if error.filename is None and error.errno is None:  # of a server
            raise unreachable(uri, error) from error
        raise TrackingError(
            f"cannot write for MLflow: {error}. Make room and run the same command again"
        ) from error


@contextmanager
def connected(tracking: Tracking, dir: Path) -> Iterator[MlflowClient]:
    """Give a client of the store. Raises TrackingError like `client` and `answering`."""
    store = client(tracking, dir)
    with answering(store.tracking_uri):
        yield store


def remote(uri: str) -> bool:
    """Return whether the store is a server, which then also keeps the artifacts."""
    return uri.startswith(("http://", "https://"))


def unreachable(uri: str, error: Exception) -> TrackingError:
    """Return the error that names the store that does not answer or refuses, and the reason."""
    reason = (masked_text(str(error)).strip().splitlines() or [type(error).__name__])[0]
    if getattr(error, "error_code", None) not in (
        None,
        "INTERNAL_ERROR",
        "TEMPORARILY_UNAVAILABLE",
        "BAD_REQUEST",
    ):
        return TrackingError(f"the MLflow store at {masked_text(uri)} refuses: {reason}")
    return TrackingError(
        f"the MLflow store at {masked_text(uri)} does not answer ({reason}). Start it, or set "
        "tracking.uri"
    )


def require_local(location: str, uri: str) -> None:
    """Raise TrackingError if a database file names a server for its artifacts: whoever wrote the
    file would choose where this machine connects to.
    """
    if uri.startswith("sqlite:") and not location.startswith(("file:", "/")):
        raise TrackingError(
            f"{masked_text(uri)} keeps artifacts at {masked_text(location)}, which a database file "
            "may not. Name the server that has them: tracking.uri=ADDRESS"
        )


def local_path(location: str) -> Path | None:
    """Return the path of an artifact on this machine; None if it is elsewhere."""
    if location.startswith("file:"):
        return Path(url2pathname(urlparse(location).path))
    return Path(location) if location.startswith("/") else None


def sync_files(location: str) -> None:
    """Wait until artifacts survive a power cut of this machine, as the rows of the database do.

    MLflow copies files and does not wait for the disk.
    """
    folder = local_path(location)
    if folder is not None and folder.exists():
        sync_tree(folder)
        sync_above(folder)


def client(tracking: Tracking, dir: Path) -> MlflowClient:
    """Return a client of the store; create its database if there is none yet.

    Raises:
        TrackingError: The store cannot be opened.
    """
    quiet()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = address(tracking, dir)
    require_address(tracking, dir)
    if remote(uri):
        return MlflowClient(uri, registry_uri=uri)
    try:
        dir.mkdir(parents=True, exist_ok=True)
        file = (dir / "mlflow.lock").open("a")
    except OSError as error:
        if uri == own_address(dir) and (dir / "mlflow.db").exists():
            return MlflowClient(uri, registry_uri=uri)  # to read, as from the folder of others
        raise TrackingError(
            f"cannot write into {dir}: {error.strerror}. Choose another folder: dir=PATH"
        ) from error
    try:
        # Without the lock, processes that open a new database together would all migrate it
        # and all but one would fail.
        with file as lock:
            take_lock(lock, wait=True)
            if uri != own_address(dir):
                _knock(uri)
            elif (dir / "mlflow.db").exists():
                relocate(dir)
            else:
                make_database(dir / "mlflow.db")
            return MlflowClient(uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise unreachable(uri, error) from error


def _knock(uri: str) -> None:
    """Connect once and raise any error at once; MLflow would retry for a minute and a half."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    engine.connect().close()
    engine.dispose()


def experiment(store: MlflowClient, name: str, dir: Path) -> str:
    """Return the id of the experiment ``name``; create it if there is none yet.

    Raises:
        TrackingError: The experiment was deleted, or keeps its files where it may not.
    """
    from mlflow.exceptions import MlflowException

    entry = store.get_experiment_by_name(name)
    if entry is None:
        folder = dir.resolve() / "artifacts" / re.sub(r"[^\w.-]+", "-", name)
        # With this kind MLflow's pages open on training runs.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        if store.tracking_uri == own_address(dir):
            tags[PLACE] = artifacts_address(dir)
        try:
            return str(
                store.create_experiment(
                    name, None if remote(store.tracking_uri) else folder.as_uri(), tags
                )
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            entry = store.get_experiment_by_name(name)  # another process created it
    if entry is None or entry.lifecycle_stage == "deleted":
        number = f" -x {entry.experiment_id}" if entry else ""
        raise TrackingError(
            f'the experiment "{name}" was deleted in MLflow. Restore it (mlflow experiments '
            f"restore{number}) or choose another name"
        )
    require_local(str(entry.artifact_location), store.tracking_uri)
    return str(entry.experiment_id)
