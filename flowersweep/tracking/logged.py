"""Trained networks as MLflow logged models: .keras files (no pickle) with signature and facts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowersweep.errors import TrackingError
from flowersweep.tracking.store import require_local

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model
    from mlflow.models.model import ModelInfo

log = logging.getLogger(__name__)

NAME = "classifier"


def log_model(
    run: str,
    model: keras.Model,
    example: npt.NDArray[np.uint8],
    store: MlflowClient,
    *,
    facts: Mapping[str, Any] | None = None,
) -> ModelInfo:
    """Log ``model`` under ``run``, once: a second call returns the model of the first.

    MLflow's pyfunc can load the logged model.

    Args:
        run: Run id.
        model: Maps images (n, H, W, 3) in 0..255 to logits (n, K).
        example: Batch of uint8 images; its H and W become part of the signature.
        store: Client of the store.
        facts: Metadata of the model.

    Raises:
        TrackingError: The store does not know the run.
    """
    from mlflow.models import Model

    logged = find_model(store, run)
    if logged is not None:
        folder = fetch(store, logged, "MLmodel")
        return Model.load(str(folder)).get_model_info(logged)
    draft = store.create_logged_model(
        _experiment(store, run), name=NAME, source_run_id=run, model_type="image classification"
    )
    description = Model(
        run_id=run,
        model_id=draft.model_id,
        model_uuid=draft.model_id,
        artifact_path=draft.artifact_location,
    )
    try:
        with TemporaryDirectory(prefix="flowersweep-") as scratch:
            _save(model, Path(scratch), description, example, facts or {})
            store.log_model_artifacts(draft.model_id, scratch)
    except BaseException:
        store.finalize_logged_model(draft.model_id, "FAILED")
        raise
    _link(store, run, draft.model_id)
    return description.get_model_info(store.finalize_logged_model(draft.model_id, "READY"))


def find_model(store: MlflowClient, run: str) -> LoggedModel | None:
    """Return the finished model logged under ``run``; None if there is none.

    Raises:
        TrackingError: The store does not know the run.
    """
    models = store.search_logged_models(
        [_experiment(store, run)], filter_string=f"source_run_id = '{run}' and name = '{NAME}'"
    )
    ready = [model for model in models if str(model.status) == "READY"]
    return min(ready, key=lambda model: model.creation_timestamp) if ready else None


def fetch(store: MlflowClient, logged: LoggedModel, path: str, folder: str | None = None) -> Path:
    """Return a local path of a logged model's file; download it into ``folder`` if necessary."""
    import mlflow.artifacts

    location = f"{logged.artifact_location}/{path}"
    require_local(location, store.tracking_uri)
    local = location.startswith(("file:", "/"))
    return Path(
        mlflow.artifacts.download_artifacts(
            location, dst_path=None if local else folder, tracking_uri=store.tracking_uri
        )
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
    import keras
    import mlflow.keras
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    outputs = TensorSpec(np.dtype(np.float32), (-1, int(model.output_shape[-1])), "logits")
    inputs = TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))
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
        pip_requirements=[f"{name}=={version(name)}" for name in ("keras", "jax", "numpy")],
        metadata={**facts, **versions},
    )


def _link(store: MlflowClient, run: str, model: str) -> None:
    from mlflow.entities import LoggedModelOutput

    store.log_outputs(run, [LoggedModelOutput(model, step=0)])
