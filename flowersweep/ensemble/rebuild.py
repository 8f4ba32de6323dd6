"""The members of an ensemble as networks, and all of them as one.

A network comes from stored weights, is averaged from those of several trials, or is trained again
from its journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep.config.compose import config_from_dict as whole
from flowersweep.config.paths import merged
from flowersweep.config.schema import Config
from flowersweep.ensemble.averaging import average, ingredients, is_soup
from flowersweep.errors import StudyError
from flowersweep.evaluation.calibration import probabilities
from flowersweep.evaluation.ensemble import Pool
from flowersweep.models.classifier import digest
from flowersweep.models.ensemble_model import Part, build_ensemble_model
from flowersweep.study.records import read_study
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

ALIKE = 0.01  # difference of a probability: logits are stored in half precision

Trained = tuple[Config, Checkpoint]


def recorded(config: Config, member: str) -> Config:
    """Return what a trial was trained with; of a soup, its first trial."""
    study, number, *_ = member.split(":")
    record = read_study(Path(config.dir) / "studies" / study)
    return whole(merged(record.started.config, record.trials[int(number)].settings))


def configured(config: Config, member: str) -> Config:
    """Return what a member was trained with, for the images of ``config``.

    Raises:
        StudyError: The trial is a pool of others itself.
    """
    trained = recorded(config, member)
    if trained.ensemble.members:
        raise StudyError(
            f"{member} is an ensemble itself, which cannot be a part of one model: name its members"
        )
    data = replace(config.data, image_size=trained.data.image_size)
    return replace(config.with_experiment(trained.experiment), data=data)


def at_hand(config: Config, member: str) -> bool:
    """Return whether a member's network costs no more than seconds.

    Its weights are stored, or it is a head on stored features.
    """
    stored = all(weights(config, trial) for trial in ingredients(member))
    return stored or not configured(config, member).train.finetune


def weights(config: Config, trial: str) -> Path | None:
    """Return where the weights of ``STUDY:TRIAL`` are stored.

    Returns:
        None if they are not: a study keeps those of its best trials.
    """
    study, _, number = trial.partition(":")
    folder = Path(config.dir) / "studies" / study / "trials" / number
    return next(
        (folder / name for name in ("weights.npz", "network.npz") if (folder / name).exists()), None
    )


def load_network(config: Config, member: str) -> Checkpoint | None:
    """Return the stored network of a member; None if it is not stored."""
    paths = [weights(config, trial) for trial in ingredients(member)]
    stored = [path for path in paths if path]
    if len(stored) < len(paths):
        return None
    networks = (Checkpoint.load(path) for path in stored)
    if not is_soup(member):
        return next(networks)
    return average(networks, configured(config, member).train.all_epochs)


def rebuild_member(
    config: Config, member: str, tune: np.ndarray, context: TrainingContext
) -> Trained:
    """Return a member's configuration and its trained state.

    Args:
        tune: The logits (n, K) that the member stored.

    Raises:
        StudyError: Its logits are others now: the images, the package or the machine is not what
            it was.
    """
    own, stored = configured(config, member), load_network(config, member)
    trained = stored or trial.restored(
        own, trial.advance(own, Checkpoint(), own.train.all_epochs, context)[0]
    )
    stage, _ = trial.stage_at(own, trained.epoch - 1, context)
    assert trained.state is not None
    logits = stage.logits(trained.state, "tune")
    apart = float(np.abs(probabilities(logits) - probabilities(tune.astype(np.float32))).max())
    if not apart < ALIKE:
        how = "read from its weights" if stored else "trained again"
        raise StudyError(
            f"{member}, {how}, is not the network whose logits it stored: a probability "
            f"differs by {apart:.2g}"
        )
    return own, trained


def build_ensemble(members: Mapping[int, Trained], pool: Pool, context: TrainingContext) -> Any:
    """Return one Keras model of standard layers, images (n, H, W, 3) to the pool's logits (n, K).

    Members whose backbones are alike, weight for weight, share one. Where members take images of
    different sizes, the model takes them as they are stored.

    Args:
        members: Those that the pool gives a weight, by their place in it.
    """
    parts: list[Part] = []
    known: dict[tuple[str, Any], Any] = {}
    used = sorted(members)
    for n in used:
        config, trained = members[n]
        made = trial.build_trained_classifier(config, trained, context)
        seen = made.backbone.input_shape, made.scaling, made.views
        key = digest(made.backbone, config.model), seen
        whole = made.model if made.members else made.backbone
        # names must differ in one model
        whole.name, made.heads[0].name = f"member_{n}", f"member_{n}_head"
        network = whole if made.members else known.setdefault(key, whole)
        parts.append((network, None if made.members else made.heads[0]))
    sizes = {network.input_shape[1:3] for network, _ in parts}
    stored = (
        context.dataset(replace(members[used[0]][0].data, image_size=None)).image_size
        if len(sizes) > 1
        else None
    )
    return build_ensemble_model(
        parts,
        pooling=pool.pooling,
        weights=pool.weights[used].tolist(),
        temperatures=pool.temperatures[used].tolist(),
        recalibration=pool.recalibration,
        image_size=stored,
    )
