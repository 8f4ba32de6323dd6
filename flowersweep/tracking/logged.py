"""Trained networks as MLflow logged models: .keras files (no pickle) with an example and facts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowersweep.errors import ModelGone, TrackingError
from flowersweep.tracking.masking import masked_text
from flowersweep.tracking.store import local_path, require_local, sync_files, unreachable

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model
    from mlflow.models.model import ModelInfo
    from mlflow.types import Schema

NAME = "classifier"
NETWORK = "data/model.keras"  # where MLflow has the network of a model
SERVING = "flowersweep.serving"  # the module that MLflow's pyfunc opens a model with
DIGEST = "flowersweep.sha256"  # tag of a model: what its network was when it was logged


def log_model(
    run: str,
    model: keras.Model,
    example: npt.NDArray[np.uint8],
    store: MlflowClient,
    *,
    facts: Mapping[str, Any] | None = None,
) -> ModelInfo:
    """Log ``model`` under ``run``, once: a second call returns the model of the first.

    A model that an earlier command began to log, or whose files are gone, is written again under
    its own id. MLflow's pyfunc can load the logged model.

    Args:
        run: Run id.
        model: Maps images (n, H, W, 3) in 0..255 to logits (n, K).
        example: Batch of uint8 images; its H and W are noted.
        store: Client of the store.
        facts: Metadata of the model; with ``classes`` its pyfunc answers with their names.

    Raises:
        TrackingError: The store does not know the run.
    """
    from mlflow.models import Model

    ready = find_model(store, run)
    with suppress(ModelGone):
        if ready is not None:
            return Model.load(str(fetch(store, ready, "MLmodel"))).get_model_info(ready)
    draft = ready or next(iter(_models(store, run)), None)
    if draft is None:
        draft = store.create_logged_model(
            _experiment(store, run), name=NAME, source_run_id=run, model_type="image classification"
        )
    number, place = draft.model_id, draft.artifact_location
    description = Model(run_id=run, model_id=number, model_uuid=number, artifact_path=place)
    try:
        with TemporaryDirectory(prefix="flowersweep-") as scratch:
            _save(model, Path(scratch), description, example, facts or {})
            store.log_model_artifacts(number, scratch)
            digest = digest_of(Path(scratch, NETWORK))
        store.set_logged_model_tags(number, {DIGEST: digest})
        sync_files(place)  # before an alias may name the model
    except BaseException:
        store.finalize_logged_model(number, "FAILED")
        raise
    _link(store, run, number)
    return description.get_model_info(store.finalize_logged_model(number, "READY"))


def find_model(store: MlflowClient, run: str) -> LoggedModel | None:
    """Return the finished model logged under ``run``; None if there is none.

    Raises:
        TrackingError: The store does not know the run.
    """
    ready = (model for model in _models(store, run) if str(model.status) == "READY")
    return next(ready, None)


def remove_unfinished(store: MlflowClient, runs: Collection[str]) -> None:
    """Remove the models of a study's ``runs`` that a command began to log and did not finish."""
    for run in [*runs][:1]:
        for model in _search(store, run, f"name = '{NAME}'"):
            if model.source_run_id in runs and str(model.status) != "READY":
                store.finalize_logged_model(model.model_id, "FAILED")
                store.delete_logged_model(model.model_id)
                if (folder := local_path(model.artifact_location)) is not None:
                    rmtree(folder, ignore_errors=True)


def _models(store: MlflowClient, run: str) -> list[LoggedModel]:
    """Return the models logged under a run, the oldest first."""
    models = _search(store, run, f"source_run_id = '{run}' and name = '{NAME}'")
    return sorted(models, key=lambda model: (model.creation_timestamp, model.model_id))


def _search(store: MlflowClient, run: str, condition: str) -> list[LoggedModel]:
    """Return the models of the run's experiment that meet a condition."""
    experiments = [_experiment(store, run)]
    matches: list[LoggedModel] = []
    token: str | None = ""
    while token is not None:
        page = store.search_logged_models(
            experiments, filter_string=condition, page_token=token or None
        )
        matches += page
        token = page.token or None
    return matches


def fetch(store: MlflowClient, logged: LoggedModel, path: str, folder: str | None = None) -> Path:
    """Return a local path of a logged model's file; download it into ``folder`` if necessary.

    Raises:
        ModelGone: The file is not there any more.
        TrackingError: The store of the files does not answer.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    location = f"{logged.artifact_location}/{path}"
    require_local(location, store.tracking_uri)
    if (local := local_path(location)) is not None:
        if not local.exists():
            raise _gone(logged, location)
        return local
    try:
        return Path(
            mlflow.artifacts.download_artifacts(
                location, dst_path=folder, tracking_uri=store.tracking_uri
            )
        )
    except (MlflowException, OSError) as error:
        if (
            getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"
            or getattr(getattr(error, "response", None), "status_code", None) == 404
        ):
            raise _gone(logged, location) from error
        raise unreachable(store.tracking_uri, error) from error


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gone(logged: LoggedModel, location: str) -> ModelGone:
    return ModelGone(
        f"the files of the model {logged.model_id} are gone: there is no {masked_text(location)}. "
        "Restore them from a copy, or name another model: version=N or run=ID"
    )


def _experiment(store: MlflowClient, run: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(store.get_run(run).info.experiment_id)
    except MlflowException as error:
        raise TrackingError(
            f'MLflow has no run "{run}" ({error.message}). Take the id from the run\'s page or '
            "from a study"
        ) from error


def _save(
    model: keras.Model,
    path: Path,
    description: Model,
    example: npt.NDArray[np.uint8],
    facts: Mapping[str, Any],
) -> None:
    """Save a model as MLflow has it. With class names MLflow serves it by our own module."""
    import keras
    import mlflow.keras
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    outputs = TensorSpec(np.dtype(np.float32), (-1, int(model.output_shape[-1])), "logits")
    inputs = TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))
    homes = {type(layer).__module__.split(".")[0] for layer in model._flatten_layers()}
    needed = ["keras", "jax", "numpy", *(["keras-hub"] if "keras_hub" in homes else [])]
    versions: dict[str, Any] = {
        "keras_version": keras.version(),
        "backend": keras.backend.backend(),
    }
    mlflow.keras.save_model(
        model,
        str(path),
        mlflow_model=description,
        signature=ModelSignature(Schema([inputs]), Schema([outputs])),
        input_example=example[:1],
        # Without this list MLflow loads the model in another process to find it: seconds.
        pip_requirements=[f"{name}=={version(name)}" for name in needed],
        metadata={
            **facts,
            **versions,
            "input": f"{inputs.type} {inputs.shape}: RGB, 0 to 255, not scaled",
            "output": f"{outputs.type} {outputs.shape}: logits",
        },
    )
    if "classes" in facts:
        description.flavors["python_function"]["loader_module"] = SERVING
        # An input schema is columns or one tensor: with either, MLflow would refuse the other of
        # image files and arrays.
        description.signature = ModelSignature(outputs=_answer())
        description.save(str(path / "MLmodel"))


def _answer() -> Schema:
    """Return what `flowersweep.serving` answers for each image."""
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Map

    return Schema(
        [
            ColSpec(DataType.string, "class"),
            ColSpec(DataType.long, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Map(DataType.double), "probabilities"),
        ]
    )


def _link(store: MlflowClient, run: str, model: str) -> None:
    from mlflow.entities import LoggedModelOutput

    outputs = store.get_run(run).outputs
    if outputs and model in {output.model_id for output in outputs.model_outputs}:
        return
    store.log_outputs(run, [LoggedModelOutput(model, step=0)])
