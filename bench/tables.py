"""Recorded learning curves of real head trials: a table of every corner of a lattice over a search
space, and what lies between them.

A sweep's own space is kept, with its conditions. Each number has a few levels, evenly spaced in
what its distribution makes of a share (so on a logarithmic scale if it has one), both ends
included; every combination was trained. Between the corners curves and scores are interpolated
linearly along each number, so nothing in the table is better than its best corner: the regret of a
search is exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import CategoricalDistribution
from scipy.interpolate import RegularGridInterpolator

from flowersweep.config.compose import compose, parse
from flowersweep.config.paths import Settings, with_settings
from flowersweep.config.schema import Config
from flowersweep.runtime import start
from flowersweep.space.designs import quasi_random
from flowersweep.space.space import Params, Space, build_space
from flowersweep.space.transforms import cdf, ppf
from flowersweep.training import trial
from flowersweep.training.checkpoint import Checkpoint
from flowersweep.training.context import TrainingContext

FOLDER = Path(__file__).parent / "curves"
# points that are no corners, each trained with so many seeds: how far the lattice and the seed lead
# astray
BETWEEN, SEEDS = 60, 3
# name -> (words of the command line, without the images; levels of each number)
RECORDED: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "smoothing": (
        (
            "+sweep=smoothing",
            "+sweep.space.dropout={path: model.dropout, values: 'interval(0, 0.5)'}",
            (
                "+sweep.space.weight_decay={path: train.weight_decay, values: 'tag(log, "
                "interval(1e-4, 1))'}"
            ),
        ),
        {
            "learning_rate": 7,
            "label_smoothing": 4,
            "gamma": 4,
            "warmup": 3,
            "dropout": 3,
            "weight_decay": 3,
        },
    ),
    "learning_rate": (
        ("+sweep=learning_rate", "~sweep.space.lr_scaling", "model=efficientnet_lite2"),
        {"learning_rate": 7, "warmup": 3, "start": 3, "half_life": 5, "minimum": 3},
    ),
}
SMALLER = ("smoothing",)  # tables whose points between were also trained on images of half the size
Branch = tuple[Any, ...]  # what each choice of a space is, in order


class Found(NamedTuple):
    """What training one point gave: the objective (smaller is better) after each segment, and the
    macro F1 of holdout at the end.
    """

    curve: np.ndarray
    report: float


@dataclass(frozen=True)
class Table:
    """A space, what every corner of its lattice gave, and some points between the corners."""

    config: Config
    space: Space
    levels: dict[str, int]
    # (levels of each active number..., segments + 1); the last is the macro F1 of holdout
    corners: dict[Branch, np.ndarray]
    between: list[Params]
    checks: np.ndarray  # (points between, seeds, segments + 1)
    smaller: np.ndarray | None = None  # (points between, segments + 1) with images of half the size

    @property
    def best(self) -> float:
        """The smallest objective of the table."""
        return float(min(found[..., -2].min() for found in self.corners.values()))

    def at(self, params: Params) -> Found:
        """Return what training a point gives: of a corner what was recorded, elsewhere what lies
        between the corners.
        """
        shares = [cdf(p.distribution, params[p.name]) for p in numbers(self.space, params)]
        *curve, report = self._between[branch(self.space, params)](np.clip(shares, 0, 1))[0]
        return Found(np.array(curve), float(report))

    @cached_property
    def _between(self) -> dict[Branch, RegularGridInterpolator]:
        return {
            key: RegularGridInterpolator([np.linspace(0, 1, n) for n in found.shape[:-1]], found)
            for key, found in self.corners.items()
        }


def words(name: str) -> tuple[str, ...]:
    """Return the command line of a table, whose sweep searches its space."""
    return RECORDED[name][0]


def composed(name: str, *more: str) -> tuple[Config, Space]:
    """Return the configuration and the space of a table."""
    line = (*words(name), *more)
    config = compose(line)
    return config, build_space(config, line, parse(line))


def numbers(space: Space, params: Params) -> list[Any]:
    """Return the parameters of a point that are numbers, in order."""
    return [
        p
        for p in space.parameters
        if p.name in params and not isinstance(p.distribution, CategoricalDistribution)
    ]


def branch(space: Space, params: Params) -> Branch:
    """Return which branch of a space a point lies in."""
    return tuple(
        params[p.name]
        for p in space.parameters
        if isinstance(p.distribution, CategoricalDistribution)
    )


def lattice(
    space: Space, levels: dict[str, int]
) -> Iterator[tuple[Branch, tuple[int, ...], list[Params]]]:
    """Yield every branch of a space with the levels of its numbers and its corners, the last number
    running fastest.
    """
    choices = [p for p in space.parameters if isinstance(p.distribution, CategoricalDistribution)]
    for chosen in product(*(p.distribution.choices for p in choices)):  # type: ignore[attr-defined]
        fixed = dict(zip((p.name for p in choices), chosen, strict=True))
        active = numbers(space, space.fill_active(lambda p, fixed=fixed: fixed.get(p.name, 0)))  # type: ignore[misc]
        shares = product(*(np.linspace(0, 1, levels[p.name]).tolist() for p in active))
        corners = [
            {**fixed, **{p.name: ppf(p.distribution, s) for p, s in zip(active, at, strict=True)}}
            for at in shares
        ]
        yield chosen, tuple(levels[p.name] for p in active), corners


def load(name: str) -> Table:
    """Read a recorded table."""
    config, space = composed(name)
    with np.load(FOLDER / f"{name}.npz") as file:
        about = json.loads(str(file["about"]))
        shapes = [(chosen, shape) for chosen, shape, _ in lattice(space, about["levels"])]
        corners = {
            chosen: file[f"corners{n}"].reshape(*shape, -1).astype(float)
            for n, (chosen, shape) in enumerate(shapes)
        }
        half = file.get("smaller")
        return Table(
            config,
            space,
            about["levels"],
            corners,
            about["between"],
            file["checks"].astype(float),
            half,
        )


def record(name: str, data: Sequence[str], folder: Path = FOLDER) -> None:
    """Train every corner of a table's lattice, and the points between, on these images; write the
    table.
    """
    config, space = composed(name, "data=tfrecords", *data)
    levels, context = RECORDED[name][1], _workshop(config)
    found: dict[str, Any] = {}
    for n, (chosen, _, corners) in enumerate(lattice(space, levels)):
        rows = [
            _trained(space, context, params, {}) for params in _told(corners, f"{name} {chosen}")
        ]
        found[f"corners{n}"] = rows
    points = [quasi_random(space, number, 1) for number in range(BETWEEN)]
    found["checks"] = [
        [_trained(space, context, params, {"seed": seed}) for seed in range(SEEDS)]
        for params in _told(points, f"{name} between")
    ]
    if name in SMALLER:
        found["smaller"] = smaller(name, data)
    about = {"levels": levels, "between": points, "images": context.dataset(config.data).digest}
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {key: np.array(rows, np.float32) for key, rows in found.items()}
    np.savez_compressed(folder / f"{name}.npz", about=json.dumps(about), **arrays)


def smaller(name: str, data: Sequence[str]) -> np.ndarray:
    """Return what the points between give with images of half the size, which are resized as they
    are read: (points, segments + 1).
    """
    config, space = composed(name, "data=tfrecords", *data)
    context = _workshop(config)
    size = {"data.image_size": context.dataset(config.data).image_size[0] // 2}
    points = [quasi_random(space, number, 1) for number in range(BETWEEN)]
    return np.array(
        [_trained(space, context, params, size) for params in _told(points, f"{name} smaller")],
        np.float32,
    )


def _workshop(config: Config) -> TrainingContext:
    cache = Path(config.dir) / "cache"
    return TrainingContext(start(cache / "compiled"), cache, lambda what, done, total: None)


def _trained(space: Space, context: TrainingContext, params: Params, more: Settings) -> list[float]:
    config = with_settings(space.config(params), more)
    checkpoint, epochs = trial.advance(config, Checkpoint(), config.train.all_epochs, context)
    length = config.sweep.report_interval_epochs
    curve = [
        each.metrics[config.sweep.objective]
        for each in epochs
        if each.epoch % length == 0 or each.epoch == len(epochs)
    ]
    return [
        *(round(value, 5) for value in curve),
        round(trial.finish(config, checkpoint, context).metrics["holdout/macro_f1"], 5),
    ]


def _told(points: list[Params], what: str) -> Iterator[Params]:
    for number, params in enumerate(points):
        if number % 20 == 0:
            print(f"{what}: {number} of {len(points)}", flush=True)
        yield params
