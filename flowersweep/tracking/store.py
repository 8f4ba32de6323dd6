"""The MLflow store: its address, a client for it, and the experiment of a study."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking.masking import masked_text
from flowersweep.util.files import move
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
    """Return the tracking URI: the configured one, or the database ``mlflow.db`` in ``dir``."""
    return tracking.uri or f"sqlite:///{dir.resolve()}/mlflow.db"


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
        "tracking.uri (null: a database in mlruns/)"
    )


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
    if remote(uri):
        return MlflowClient(uri, registry_uri=uri)
    try:
        dir.mkdir(parents=True, exist_ok=True)
        file = (dir / "mlflow.lock").open("a")
    except OSError as error:
        if not tracking.uri and (dir / "mlflow.db").exists():
            return MlflowClient(uri, registry_uri=uri)  # to read, as from the folder of others
        raise TrackingError(
            f"cannot write into {dir}: {error.strerror}. Choose another folder: dir=PATH"
        ) from error
    try:
        # Without the lock, processes that open a new database together would all migrate it
        # and all but one would fail.
        with file as lock:
            take_lock(lock, wait=True)
            if not tracking.uri and not (dir / "mlflow.db").exists():
                _make_database(dir / "mlflow.db")
            if tracking.uri:
                _knock(uri)
            return MlflowClient(uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise unreachable(uri, error) from error


def _knock(uri: str) -> None:
    """Connect once and raise any error at once; MLflow would retry for a minute and a half."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    engine.connect().close()
    engine.dispose()


def _make_database(path: Path) -> None:
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


def experiment(store: MlflowClient, name: str, dir: Path) -> str:
    """Return the id of the experiment ``name``; create it if there is none yet.

    Raises:
        TrackingError: The experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    entry = store.get_experiment_by_name(name)
    if entry is None:
        folder = dir.resolve() / "artifacts" / re.sub(r"[^\w.-]+", "-", name)
        try:
            # With this kind MLflow's pages open on training runs.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(
                store.create_experiment(
                    name, None if remote(store.tracking_uri) else folder.as_uri(), kind
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
    return str(entry.experiment_id)
