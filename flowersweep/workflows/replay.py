"""A run trained again from what MLflow holds of it, and how many digits of each result agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowersweep import provenance
from flowersweep.config.compose import config_from_dict
from flowersweep.config.images import require_own_images
from flowersweep.config.keys import is_within, key_of, role_of, says, settings_with_role
from flowersweep.config.paths import flatten, with_settings
from flowersweep.config.schema import Config
from flowersweep.config.setting import COMMAND, PLACE
from flowersweep.config.validation import uses_workers
from flowersweep.errors import ConfigError, DataError, StudyError, TrackingError
from flowersweep.machine import describe_machine
from flowersweep.runtime import Runtime, start
from flowersweep.tracking.masking import MASK
from flowersweep.tracking.recorded import RecordedRun, changes
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext
from flowersweep.training.features import Progress
from flowersweep.util.arrays import read_arrays

ALL = 17  # significant digits of a float64: it is the same number
# digits that must agree where the machine or the code is another, and sums may be taken in another
# order
ELSEWHERE = 3
FLOAT16 = ("tune", "holdout", "test")  # logits are kept in half precision


@dataclass(frozen=True)
class Compared:
    """A number that was logged, and what it is now."""

    name: str
    logged: float
    again: float

    @property
    def digits(self) -> int:
        """The significant digits in which both agree; ALL if they are the same number."""
        return agreeing(self.logged, self.again)


@dataclass(frozen=True)
class Replayed:
    """What became of a run that was trained again."""

    run: str
    epochs: int
    metrics: list[Compared]  # the final ones
    curves: list[Compared]  # by metric, the epoch in which the fewest digits agree
    # the largest difference; 0.0 if every bit is the same, None if the run kept none
    logits: float | None
    elsewhere: list[str]  # how the machine, or the code that was forced, differs

    @property
    def wanted(self) -> int:
        """The digits that must agree."""
        return ELSEWHERE if self.elsewhere else ALL

    @property
    def agrees(self) -> bool:
        """Whether as many digits agree as must."""
        enough = all(each.digits >= self.wanted for each in (*self.metrics, *self.curves))
        return enough and (bool(self.elsewhere) or not self.logits)


def agreeing(a: float, b: float) -> int:
    """Return in how many significant digits two numbers agree."""
    if a == b:
        return ALL
    return max(0, min(ALL - 1, math.floor(-math.log10(abs(a - b) / max(abs(a), abs(b))))))


def replay(
    run: RecordedRun,
    config: Config,
    overrides: Sequence[str],
    *,
    features: Progress,
    refused: Path,
) -> Replayed:
    """Train ``run`` again, as far as it was trained, and compare.

    Raises StudyError if the code is another (``force=true`` trains in spite of it; changes against
    the commit are put into the folder ``refused``), DataError if the images are, and ConfigError if
    the command says what is to be trained.
    """
    trained = _configured(run, config, overrides)
    runtime = start(Path(config.dir) / "cache" / "compiled")
    elsewhere = _required(run, runtime, config, refused)
    if uses_workers(trained):
        elsewhere.append("it was trained by one of several workers, whose cores are not known")
    context = TrainingContext(runtime, Path(config.dir) / "cache", features, config.trusted_modules)
    now, then = (
        context.dataset(trained.data).digest,
        run.provenance.get("data", {}).get("digest"),
    )
    if now != then:
        where = context.dataset(trained.data).dir
        raise DataError(
            f"{where} holds other images (digest {now}) than the run was trained on (digest "
            f"{then}): name theirs, data.dir=PATH"
        )
    last = trained.train.all_epochs if run.state == "complete" else run.epochs
    checkpoint, epochs = trial.advance(trained, Checkpoint(), last, context)
    again = {
        name: {each.epoch: each.metrics[name] for each in epochs} for name in epochs[0].metrics
    }
    curves = [
        _worst(name, curve, again[name]) for name, curve in run.curves.items() if name in again
    ]
    if run.state != "complete":
        return Replayed(run.run, last, [], curves, None, elsewhere)
    result = trial.finish(trained, checkpoint, context)
    metrics = [
        Compared(name, value, result.metrics[name])
        for name, value in sorted(run.metrics.items())
        if name in result.metrics
    ]
    return Replayed(run.run, last, metrics, curves, _logits(run, result.logits), elsewhere)


def record(result: Replayed) -> dict[str, Any]:
    """Return a comparison as plain data."""
    return {
        "run": result.run,
        "epochs": result.epochs,
        "agrees": result.agrees,
        "digits_wanted": result.wanted,
        "metrics": {
            each.name: {"logged": each.logged, "again": each.again, "digits": each.digits}
            for each in result.metrics
        },
        "curves": {
            each.name: {"logged": each.logged, "again": each.again, "digits": each.digits}
            for each in result.curves
        },
        "logits_largest_difference": result.logits,
        "elsewhere": result.elsewhere,
    }


def rows(result: Replayed) -> list[list[str]]:
    """Return a comparison as a table, heading first."""
    names = [(each.name, each) for each in result.metrics] + [
        (f"{each.name}, each epoch", each) for each in result.curves
    ]
    table = [["metric", "logged", "now", "digits that agree"]]
    table += [
        [
            name,
            repr(each.logged),
            repr(each.again),
            "all" if each.digits == ALL else str(each.digits),
        ]
        for name, each in names
    ]
    said = {None: "not kept by the run", 0.0: "every bit is the same"}.get(
        result.logits, f"largest difference {result.logits}"
    )
    return [*table, ["logits", "", "", said]] if result.metrics else table


def verdict(result: Replayed) -> str:
    """Say in a sentence what came out."""
    fewest = min((each.digits for each in (*result.metrics, *result.curves)), default=ALL)
    if fewest == ALL and not result.logits:
        return "every digit agrees"
    allowed = (
        f"; {result.wanted} are enough, since {' and '.join(result.elsewhere)}"
        if result.elsewhere
        else ", and all should"
    )
    return f"at least {fewest} digits agree{allowed}"


def _configured(run: RecordedRun, config: Config, overrides: Sequence[str]) -> Config:
    """Return what the run was trained with; where its images are may be said anew."""
    # these may be others: the digest says whether they give the same images
    if other := [
        key
        for key in map(key_of, overrides)
        if role_of(key) not in (PLACE, COMMAND) and not is_within(key, "data.fetch", "data.extra")
    ]:
        raise ConfigError(
            f"{', '.join(other)}: a replay trains what the run was, and nothing else. For "
            "another training: train"
        )
    if run.state not in ("complete", "pruned", "interrupted") or not (
        run.epochs or run.state == "complete"
    ):
        raise TrackingError(f"the run {run.name} is {run.state}: there is nothing to compare with")
    if run.config.get("ensemble", {}).get("members"):
        raise TrackingError(
            f"the run {run.name} is made of other runs and trained nothing: replay those"
        )
    was = config.with_experiment(config_from_dict(run.config).experiment)
    was = with_settings(
        was,
        {
            path: value
            for path, value in settings_with_role(config.experiment, PLACE).items()
            if says(overrides, path)
        },
    )
    if named := says(overrides, "data.extra"):
        was = replace(was, data=replace(was.data, extra=config.data.extra))
    if says(overrides, "data.dir", "data.fetch"):
        return replace(was, data=replace(was.data, dir=config.data.dir, fetch=config.data.fetch))
    if not says(overrides, "data.path"):
        require_own_images(replace(was.data, extra=[]) if named else was.data)
    known = run.provenance.get("data", {}).get("dir")
    if known and was.data.dir is None and Path(known).is_dir():
        return replace(was, data=replace(was.data, dir=known))
    if (
        any(value == MASK for path, value in flatten(was.data) if is_within(path, "fetch"))
        and was.data.dir is None
    ):
        raise ConfigError(
            f"{known} is not here, and a secret of data.fetch was not kept: name the images, "
            "data.dir=PATH"
        )
    return was


def _required(run: RecordedRun, runtime: Runtime, config: Config, folder: Path) -> list[str]:
    """Return how machine and code differ from the run's; raise StudyError if the code does and that
    was not forced.
    """
    known = run.provenance
    code = _other_code(run, config.trusted_modules)
    was, now = known.get("versions", {}), provenance.versions()
    code += [
        f"{name} is {now.get(name)} and was {was.get(name)}"
        for name in provenance.TRAINING
        if name in was and was[name] != now.get(name)
    ]
    if known.get("replicas", runtime.replicas) != runtime.replicas:
        code.append(
            f"there are {runtime.replicas} replicas and were {known['replicas']}, which "
            "makes another batch"
        )
    if code and not config.force:
        raise StudyError(
            f"{'; '.join(code)}. {_how(run, config, folder)}; or train in spite of it: force=true"
        )
    machine = {
        "device": (known.get("device_kind"), runtime.device_kind),
        "cpu": (known.get("cpu"), describe_machine()["cpu"]),
    }
    machine["cores"] = (known.get("cores"), describe_machine()["cores"])
    return code + [
        f"{what} is {now} and was {then}"
        for what, (then, now) in machine.items()
        if then is not None and then != now
    ]


def _other_code(run: RecordedRun, trusted: Sequence[str]) -> list[str]:
    known = run.provenance
    digest, now = run.tags.get("flowersweep.code", known.get("code")), provenance.code(trusted)
    if digest is not None:
        return [] if digest == now else [f"the code is another (digest {now}, the run's {digest})"]
    here, was = provenance.commit(), known.get("git_commit")
    if known.get("git_dirty"):
        return [f"the run's code was commit {was} with changes that were not kept"]
    return [] if here == was and was else [f"the code is of commit {here}, the run's of {was}"]


def _how(run: RecordedRun, config: Config, folder: Path) -> str:
    """Say how the code of a run is had again."""
    commit, known = run.provenance.get("git_commit"), run.provenance
    if run.tags.get("flowersweep.code", known.get("code")) != known.get("code"):
        return (
            f"Its study was started at commit {commit} and went on with other code before this "
            "run, of which only the digest is kept"
        )
    if not commit:
        return (
            "The run was not started in a git checkout; flowersweep was "
            f"{known.get('versions', {}).get('flowersweep', 'not installed')}"
        )
    steps = [f"git worktree add --detach ../replay {commit}", "cd ../replay"]
    diff = (
        changes(run, config.tracking, Path(config.dir), folder) if known.get("git_diff") else None
    )
    return "To have its code: " + " && ".join(
        [*steps, *([f"git apply {diff.resolve()}"] if diff else [])]
    )


def _worst(name: str, logged: dict[int, float], again: dict[int, float]) -> Compared:
    pairs = [
        Compared(name, value, again[epoch])
        for epoch, value in sorted(logged.items())
        if epoch in again
    ]
    return min(pairs, key=lambda each: each.digits)


def _logits(run: RecordedRun, logits: dict[str, np.ndarray]) -> float | None:
    stored = run.file("evaluation/logits.npz")
    if stored is None:
        return None
    recorded = read_arrays(stored)
    parts = [
        (recorded[name], logits[name].astype(np.float16))
        for name in FLOAT16
        if name in recorded and name in logits
    ]
    return max(
        (
            float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max(initial=0))
            for a, b in parts
        ),
        default=None,
    )
