"""Where MLflow keeps things: the address of the store, a client for it, and the experiment of a study."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError
from flowersweep.tracking.masking import masked_text
from flowersweep.util.files import move

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # MLflow repeats even a POST whose answer was lost, for four minutes; here, whoever calls looks first and then repeats.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def quiet() -> None:
    """Keep MLflow silent, offline and away from pickles; what the user has set himself stays, but for the pickles."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    # whatever it raises is told in a line; it prints pages of traceback and SQL beside that
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def address(tracking: Tracking, dir: Path) -> str:
    """Return the tracking URI: the configured one, or the database ``mlflow.db`` in ``dir``."""
    return tracking.uri or f"sqlite:///{dir.resolve()}/mlflow.db"


def remote(uri: str) -> bool:
    """Say whether a server answers there, which then also keeps the artifacts."""
    return uri.startswith(("http://", "https://"))


def unreachable(uri: str, error: Exception) -> TrackingError:
    """Return the error that says which store does not answer, or refuses, and why."""
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
    """Return a client of the store, making its database if there is none yet.

    Raises TrackingError if the store cannot be opened.
    """
    quiet()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = address(tracking, dir)
    if remote(uri):
        return MlflowClient(uri, registry_uri=uri)
    dir.mkdir(parents=True, exist_ok=True)
    try:
        # Processes that open a fresh database together would each migrate it, and all but one fail.
        with (dir / "mlflow.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not tracking.uri and not (dir / "mlflow.db").exists():
                _make_database(dir / "mlflow.db")
            if tracking.uri:
                _knock(uri)
            return MlflowClient(uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise unreachable(uri, error) from error


def _knock(uri: str) -> None:
    """Connect once, and raise what stands against it: MLflow would try again for a minute and a half."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    engine.connect().close()
    engine.dispose()


def _make_database(path: Path) -> None:
    """Make MLflow's tables elsewhere, then move them: a migration that was killed half-way can never be gone on with."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    log.info("making the MLflow database %s (once, up to 15 s)", path)
    partial = path.with_suffix(".partial")
    for left in path.parent.glob(f"{partial.name}*"):
        left.unlink()
    engine = create_sqlalchemy_engine_with_retry(f"sqlite:///{partial.resolve()}")
    _initialize_tables(engine)
    engine.dispose()
    move(partial, path)


def experiment(store: MlflowClient, name: str, dir: Path) -> str:
    """Return the id of the experiment ``name``, made if there is none yet. Raises TrackingError if it was deleted."""
    from mlflow.exceptions import MlflowException

    found = store.get_experiment_by_name(name)
    if found is None:
        folder = dir.resolve() / "artifacts" / re.sub(r"[^\w.-]+", "-", name)
        try:
            kind = {
                "mlflow.experimentKind": "custom_model_development"
            }  # so that the pages open on training runs
            return str(
                store.create_experiment(
                    name, None if remote(store.tracking_uri) else folder.as_uri(), kind
                )
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = store.get_experiment_by_name(name)  # somebody was faster
    if found is None or found.lifecycle_stage == "deleted":
        number = f" -x {found.experiment_id}" if found else ""
        raise TrackingError(
            f'the experiment "{name}" was deleted in MLflow. Restore it (mlflow experiments '
            f"restore{number}) or choose another name"
        )
    return str(found.experiment_id)
