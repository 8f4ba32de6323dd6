"""Labels that a model gave to the images of test (``data.pseudo_labels``), to train on.

The model must not have seen val: its labels would carry those of val into train.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowersweep.data.inventory import Inventory
from flowersweep.errors import DataError

FORMAT = 1
LEFT_OUT = 1  # thousandths: below every threshold, as no label's own are
_WRITE = "Write it anew: python -m flowersweep predict format=pseudo_labels alias=champion"


@dataclass(frozen=True)
class PseudoLabels:
    """A label for each image of test, with its probability in thousandths."""

    labels: npt.NDArray[np.int32]  # (n,)
    thousandths: npt.NDArray[np.int32]  # (n,): 2 to 1000, or LEFT_OUT
    model: Mapping[str, Any]  # which model gave them: run, study, trial
    digest: str  # of the file
    twins: int  # images that are nearly the same as one of val

    def codes(self, classes: int) -> npt.NDArray[np.int32]:
        """Return label and probability of each image as one number, as a training step reads it."""
        codes: npt.NDArray[np.int32] = self.labels + np.int32(classes) * self.thousandths
        return codes

    def count(self, threshold: float) -> int:
        """Return how many images count from a probability on."""
        taken = (self.thousandths > LEFT_OUT) & (self.thousandths + 0.5 > 1000 * threshold)
        return int(taken.sum())

    @property
    def remark(self) -> str:
        """What was labelled by whom, and what that model saw."""
        run, study, trial = (self.model[name] for name in ("run", "study", "trial"))
        return (
            f"pseudo-labels: {len(self.labels) - self.twins} images of test, by the model of run "
            f"{run} (study {study}, trial {trial}), which was trained on train alone and "
            f"calibrated on tune; left out: {self.twins} (near-duplicate of val)"
        )


def labels_file(
    ids: Sequence[str], probabilities: npt.NDArray[np.floating], facts: Mapping[str, Any]
) -> bytes:
    """Return a file with the best class of each image, of probabilities (n, K).

    Args:
        facts: classes, held_out and model, as `read_labels` wants them.
    """
    labels = probabilities.argmax(axis=1).tolist()
    chances = np.round(probabilities.max(axis=1).astype(float), 6).tolist()
    images = [list(row) for row in zip(ids, labels, chances, strict=True)]
    return json.dumps({"format": FORMAT, **facts, "images": images}).encode()


def read_labels(
    path: str, inventory: Inventory, classes: Sequence[str], held_out: str, twins: npt.NDArray[Any]
) -> PseudoLabels:
    """Return the labels of a file, in the order of test.

    Args:
        held_out: The name of the held-out images.
        twins: Which images of test are nearly the same as one of val.

    Raises:
        DataError: There is no such file, or it is about other images, classes or halves of val.
    """
    place = Path(path).expanduser()
    try:
        content = place.read_bytes()
        known = json.loads(content)
        images, model = known["images"], dict(known["model"])
        ids, labels, chances = zip(*images, strict=True)
        numbers, sure = np.array(labels, np.int32), np.array(chances, np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"data.pseudo_labels={path} cannot be read: {error}. {_WRITE}") from error
    differs = {
        f"is of format {known.get('format')}": known.get("format") != FORMAT,
        "names other classes": known.get("classes") != [*classes],
        "is about other images of test": [*ids] != inventory.parts["test"].records.ids.tolist(),
        "is by a model that other images were held out from": known.get("held_out") != held_out,
        "has labels that are no classes": not ((numbers >= 0) & (numbers < len(classes))).all(),
    }
    if faults := [fault for fault, true in differs.items() if true]:
        raise DataError(f"data.pseudo_labels={path} {faults[0]}. {_WRITE}")
    thousandths = np.clip(np.floor(1000 * sure), LEFT_OUT + 1, 1000).astype(np.int32)
    thousandths[twins] = LEFT_OUT
    digest = hashlib.sha256(content).hexdigest()[:16]
    return PseudoLabels(numbers, thousandths, model, digest, len(twins))
