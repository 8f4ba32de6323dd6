"""How good are our samplers and pruners? They are replayed on recorded learning curves of real head
trials, at no cost of training.

    python bench/search.py [STUDIES] [TABLE] [more words, such as sampler.n_startup_trials=20]
    python bench/search.py --record data.dir=TFRECORDS_DIR

A replayed study is the product's own: the space and the configuration that a command line composes,
`search.history` that makes its sampler and its pruner and asks them, a segment at a time. The trial
alone is read from a table (`bench/tables.py`). STUDIES is how many seeds each kind of study has.
Regret is how much larger the objective of the trial is that a study would pick than the best of the
table; its macro F1 is of holdout, which no search has seen. Budgets are counted in epochs, of which
an unpruned trial has ten: a pruned trial counts with what it used. Brackets hold 95 % bootstrap
intervals over the seeds; differences are paired by seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tables

from flowersweep.config.paths import with_settings
from flowersweep.config.schema import Config
from flowersweep.evaluation.selection import rank_correlation
from flowersweep.search import optuna_study

BUDGETS = (10, 20, 40)  # whole trials
STUDIES = 60
KINDS = {  # name -> words
    "default, as shipped": (),
    "default sampler": ("pruner=none",),
    "tpe": ("sampler=tpe", "pruner=none"),
    "random": ("sampler=random", "pruner=none"),
    "quasi-random": ("sampler=qmc", "pruner=none"),
    "default, hyperband": ("pruner=hyperband",),
    "default, median": ("pruner=median",),
}


@dataclass(frozen=True)
class Replay:
    """What one study would pick, after each of its trials."""

    epochs: np.ndarray  # (trials,) that had been trained, all in all
    regret: np.ndarray  # (trials,) of the best complete trial; inf before there is one
    report: np.ndarray  # (trials,) its macro F1


def replay(table: tables.Table, config: Config, *, epochs: int) -> Replay:
    """Run a study on the table until so many epochs are used up, or as many trials."""
    study, length = (
        optuna_study.rebuild_study([], table.space, config),
        config.sweep.report_interval_epochs,
    )
    used, best, report, rows = 0, np.inf, np.nan, []
    while used < epochs and len(rows) < epochs:
        trial, params = optuna_study.ask_trial(study, len(rows), space=table.space, config=config)
        found, state = table.at(params), "complete"
        for segment, value in enumerate(found.curve, 1):
            trial.report(value, segment * length)
            if segment < len(found.curve) and trial.should_prune():
                state = "pruned"
                break
        study.tell(trial, value if state == "complete" else None, state=optuna_study.STATES[state])
        used += segment * length
        if state == "complete" and value < best:
            best, report = value, found.report
        rows.append((used, best - table.best, report))
    columns = zip(*rows, strict=True)
    return Replay(*(np.array(column) for column in columns))


def replayed(name: str, words: tuple[str, ...], seed: int, epochs: int) -> Replay:
    table, config = _loaded(name), _composed(name, words)
    return replay(table, with_settings(config, {"seed": seed}), epochs=epochs)


_loaded = lru_cache(tables.load)


@lru_cache
def _composed(name: str, words: tuple[str, ...]) -> Config:
    return tables.composed(name, *words)[0]


def at(
    studies: Sequence[Replay], *, epochs: int | None = None, trials: int | None = None
) -> np.ndarray:
    """Return regret and report's macro F1 (studies, 2) when so many epochs or trials were used."""
    rows = []
    for each in studies:
        last = trials - 1 if trials else int(np.searchsorted(each.epochs, epochs, side="right")) - 1
        rows.append((each.regret[last], each.report[last]))
    return np.array(rows)


def interval(values: np.ndarray) -> str:
    """Return the mean with its bootstrap interval, in thousandths."""
    drawn = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return f"{1e3 * values.mean():7.1f} ({1e3 * low:.1f} to {1e3 * high:.1f})"


def trust(name: str) -> None:
    """Print how far a table may be trusted: by points that are no corners, each trained with
    several seeds.
    """
    table = _loaded(name)
    found, real = (
        np.array([table.at(params).curve[-1] for params in table.between]),
        table.checks[..., -2],
    )
    same = rank_correlation(found, real[:, 0])
    wrong, noise = (
        np.sqrt(np.mean((found - real[:, 0]) ** 2)),
        np.sqrt(real.var(axis=1, ddof=1).mean()),
    )
    print(
        f"\n{name}: {sum(each[..., 0].size for each in table.corners.values())} corners, "
        f"{len(found)} points between them"
    )
    print(
        f"between: rank correlation {same.value:.3f} ({same.low:.3f} to {same.high:.3f}), "
        f"error {wrong:.4f}; seeds: {noise:.4f}"
    )
    proxies = (
        {f"epoch {2 * n + 2}": table.checks[:, 0, n] for n in range(table.checks.shape[2] - 2)}
        if len(found)
        else {}
    )
    if table.smaller is not None:
        proxies["half the image size"] = table.smaller[:, -2]
    for proxy, values in proxies.items():
        same = rank_correlation(values, real[:, 0])
        print(
            f"rank correlation of {proxy} with the end: {same.value:.3f} ({same.low:.3f} to "
            f"{same.high:.3f})"
        )


def tell(name: str, kinds: dict[str, list[Replay]]) -> None:
    """Print what each kind of study reaches."""
    table = _loaded(name)
    print(
        f"\n{name}: regret of the picked trial, in thousandths of the objective (best of the "
        f"table: {table.best:.4f})"
    )
    for what, column in (("regret", 0), ("macro F1 of holdout", 1)):
        print(f"\n{what:<24}" + "".join(f"{f'{10 * n} epochs':>28}" for n in BUDGETS))
        for kind, studies in kinds.items():
            print(
                f"{kind:<24}"
                + "".join(f"{interval(at(studies, epochs=10 * n)[:, column]):>28}" for n in BUDGETS)
            )
    for kind, by in (
        ("default, as shipped", "trials"),
        ("default, as shipped", "epochs"),
        ("default sampler", "trials"),
    ):
        spent = "N trials" if by == "trials" else "the epochs of N whole trials"
        print(
            f"\n{kind}, {spent}, less quasi-random at 2N trials (regret: below 0 we are "
            "better; macro F1: above 0)"
        )
        for n in BUDGETS:
            ours = at(kinds[kind], trials=n) if by == "trials" else at(kinds[kind], epochs=10 * n)
            less = ours - at(kinds["quasi-random"], trials=2 * n)
            used = (
                10 * n if by == "epochs" else np.mean([each.epochs[n - 1] for each in kinds[kind]])
            )
            text = (
                f"regret {interval(less[:, 0])}   macro F1 {interval(less[:, 1])}   {used:.0f} "
                f"epochs against {20 * n}"
            )
            print(f"N = {n:>2}: {text}")


def main(words: Sequence[str]) -> None:
    """Record the tables, or replay on them."""
    if words[:1] == ["--record"]:
        for name in tables.RECORDED:
            tables.record(name, words[1:])
        return
    studies = int(words[0]) if words[:1] and words[0].isdecimal() else STUDIES
    more = tuple(word for word in words if "=" in word)
    with ProcessPoolExecutor() as pool:
        for name in [name for name in tables.RECORDED if name in words] or tables.RECORDED:
            trust(name)
            jobs = {
                kind: [
                    pool.submit(
                        replayed,
                        name,
                        (*of, *more),
                        seed,
                        10 * BUDGETS[-1] * (2 if kind == "quasi-random" else 1),
                    )
                    for seed in range(studies)
                ]
                for kind, of in KINDS.items()
            }
            tell(
                name, {kind: [each.result() for each in futures] for kind, futures in jobs.items()}
            )


if __name__ == "__main__":
    main(sys.argv[1:])
