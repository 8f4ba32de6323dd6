"""Choose a registered model by its alias, version or run, and load it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from flowersweep.config.schema import Tracking
from flowersweep.errors import TrackingError, did_you_mean
from flowersweep.tracking.logged import DIGEST, NETWORK, digest_of, fetch, find_model
from flowersweep.tracking.store import client, unreachable

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"  # the alias of the version that counts


def find_run(
    tracking: Tracking, dir: Path, *, alias: str | None = None, version: int | str | None = None
) -> str:
    """Return the run of an alias (default: ``champion``) or of a version.

    Ask once and use the run from then on: an alias may move at any time.

    Raises:
        TrackingError: There is no such model; the message names the existing ones.
    """
    store = client(tracking, dir)
    return str(chosen_version(store, tracking.registered_model, alias, version).run_id)


def load(
    tracking: Tracking,
    dir: Path,
    *,
    alias: str | None = None,
    version: int | str | None = None,
    run: str | None = None,
) -> keras.Model:
    """Load the model of an alias (default: ``champion``), a version or a run.

    Keras loads it in safe mode: no pickle, no code from the file.

    Raises:
        TrackingError: There is no such model; the message names the existing ones.
    """
    import keras

    store = client(tracking, dir)
    logged = _find(store, tracking.registered_model, alias, version, run)
    with TemporaryDirectory(prefix="flowersweep-") as folder:
        path = _network(store, logged, folder)
        try:
            return keras.models.load_model(path, custom_objects=None, compile=False, safe_mode=True)
        except OSError as error:
            raise _unreadable(logged, error) from error
        except (ValueError, TypeError) as error:
            if "keras_hub" in str(error) and find_spec("keras_hub") is None:
                raise TrackingError(
                    f"the model {logged.model_id} has layers of keras-hub: "
                    "pip install 'flowersweep[hub]'"
                ) from error
            raise TrackingError(
                f"the model {logged.model_id} needs code that is not Keras's own, so it is not "
                f"loaded: {error}"
            ) from error


def network_file(tracking: Tracking, dir: Path, folder: Path, *, run: str) -> Path:
    """Return the ``.keras`` file of a run's model, as it was logged.

    Args:
        tracking: Which store to use.
        dir: Folder of the default store.
        folder: Where it is put if it is on another machine.
        run: Run id.

    Raises:
        TrackingError: There is no such model, or its file was changed.
    """
    store = client(tracking, dir)
    return _network(store, _find(store, "", None, None, run), str(folder))


def _network(store: MlflowClient, logged: LoggedModel, folder: str) -> Path:
    """Return the file of a model's network. Raises TrackingError if it was changed."""
    path = fetch(store, logged, NETWORK, folder)
    try:
        ZipFile(path).close()  # Keras takes what is no archive for another format
        if logged.tags.get(DIGEST, digest := digest_of(path)) != digest:
            raise OSError(f"{NETWORK} is not the one that was logged")
    except (OSError, BadZipFile) as error:
        raise _unreadable(logged, error) from error
    return path


def _unreadable(logged: LoggedModel, error: Exception) -> TrackingError:
    return TrackingError(
        f"the file of the model {logged.model_id} cannot be read ({error}). Restore it from a "
        "copy, or name another model"
    )


def model_metadata(
    tracking: Tracking,
    dir: Path,
    *,
    alias: str | None = None,
    version: int | str | None = None,
    run: str | None = None,
) -> dict[str, Any]:
    """Return a model's metadata, such as its data and its class names in the order of the logits.

    Raises:
        TrackingError: As :func:`load`.
    """
    from mlflow.models import Model

    store = client(tracking, dir)
    logged = _find(store, tracking.registered_model, alias, version, run)
    with TemporaryDirectory(prefix="flowersweep-") as folder:
        return Model.load(str(fetch(store, logged, "MLmodel", folder))).metadata or {}


def _find(
    store: MlflowClient, name: str, alias: str | None, version: int | str | None, run: str | None
) -> LoggedModel:
    run = run or str(chosen_version(store, name, alias, version).run_id)
    logged = find_model(store, run)
    if logged is None:
        raise TrackingError(
            f"the run {run} has no logged model. Name an alias or a version of {name}, or a run "
            "that has one"
        )
    return logged


def chosen_version(
    store: MlflowClient, name: str, alias: str | None, version: int | str | None
) -> ModelVersion:
    """Return a version of a registered model by its number, else by an alias.

    Raises:
        TrackingError: There is none; the message names those that there are.
    """
    from mlflow.exceptions import MlflowException

    try:
        aliases = dict(store.get_registered_model(name).aliases)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise unreachable(store.tracking_uri, error) from error
        raise TrackingError(
            f'no model is registered as "{name}" yet: promote a study first'
        ) from error
    wanted_alias = alias or CHAMPION
    if version is None and wanted_alias not in aliases:
        raise TrackingError(
            f'{name} has no alias "{wanted_alias}". '
            f"{did_you_mean(wanted_alias, aliases, 'Aliases')}"
        )
    number = str(version if version is not None else aliases[wanted_alias])
    versions = {
        str(entry.version): entry for entry in store.search_model_versions(f"name = '{name}'")
    }
    if number not in versions:
        raise TrackingError(
            f"{name} has no version {number}. {did_you_mean(number, versions, 'Versions')}"
        )
    return versions[number]
