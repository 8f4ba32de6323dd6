"""Promote the best model of a study, or the model of a run: gate, registry and evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowersweep.config.schema import Config, Data
from flowersweep.data.dataset import open_dataset
from flowersweep.errors import ConfigError, DataError, ModelGone, did_you_mean
from flowersweep.evaluation.gate import compare_with_champion, compare_with_chance, to_dict
from flowersweep.report.evidence import chance_sentence, html, rows, sentences, uses_sentence
from flowersweep.report.model_card import model_card
from flowersweep.tracking import registry
from flowersweep.util.text import quantity, table
from flowersweep.workflows.predict import holdout_name, predict_holdout
from flowersweep.workflows.promotion.decision import Opponent
from flowersweep.workflows.promotion.ensemble import is_ensemble_study, run_ensemble_promotion
from flowersweep.workflows.promotion.refit import refit
from flowersweep.workflows.promotion.retraining import UNOBSERVED, Observer
from flowersweep.workflows.promotion.searched_study import best_run, promotion_evidence
from flowersweep.workflows.promotion.single import run_promotion
from flowersweep.workflows.studies import folder_of_study, study_names

if TYPE_CHECKING:
    from flowersweep.tracking.registry import ModelVersion

Say = Callable[[str], None]
Tags = Mapping[str, str]


@dataclass(frozen=True)
class Promoted:
    """The version of the registered model, with its alias by now, and what had the alias before."""

    version: ModelVersion
    alias: str  # champion, or challenger if the gate refused
    before: ModelVersion | None = None
    moved: bool = True  # False: the champion is the model that had been promoted before

    @property
    def better(self) -> bool:
        """Whether the model is the champion now."""
        return self.alias == registry.CHAMPION


def promote(
    config: Config,
    overrides: Sequence[str],
    observer: Observer = UNOBSERVED,
    say: Say = lambda text: None,
) -> Promoted:
    """Retrain a study's best configurations and promote the chosen model if it passes the gate.

    Args:
        config: Names a study, or a ``run`` whose model is asked about, or a ``version`` to go back
            to.
        overrides: The words of the command.
        observer: Who is told how the trainings go on.
        say: Takes the evidence and the outcome, as text.

    Raises:
        ConfigError: The settings name no model, or contradict each other.
        StudyError: The study has no complete trial, or other settings than its words mean now.
    """
    if config.force != bool(config.reason):
        raise ConfigError(
            "force=true wants a reason, and a reason wants force=true: promote study=NAME "
            'force=true reason="..."'
        )
    if config.version is not None:
        return _restored(config, say)
    if not config.study and not config.run:
        raise ConfigError(
            "whose best model? promote study=NAME. "
            + did_you_mean("", study_names(config), "Studies")
        )
    if config.force:
        forced = {"flowersweep.forced": str(config.reason)}
        return _registered(config, config.run, forced, say, better=True)
    if not config.tracking.enabled:
        raise ConfigError("the registry is MLflow's: promote without tracking.enabled=false")
    if config.run:
        return _promoted_run(config, say)
    return _promoted_study(config, overrides, observer, say)


def _promoted_study(
    config: Config, overrides: Sequence[str], observer: Observer, say: Say
) -> Promoted:
    """Run the gate for a study, and register what it says."""
    folder_of_study(config, str(config.study))
    before = registry.holder(config.tracking, Path(config.dir))
    run_gate = run_ensemble_promotion if is_ensemble_study(config) else run_promotion
    outcome = run_gate(config, overrides, partial(_opponent, champion=before), observer)
    if before and registry.evidence_run(before) == outcome.run:
        return _champion_already(config, before, outcome.evidence, say)
    evidence = {
        **outcome.evidence,
        "champion": {"version": before.version, "run": before.run_id} if before else None,
    }
    say("\n".join([table(rows(evidence)), "", *sentences(evidence)]))
    tags = {"flowersweep.claim": " ".join(sentences(evidence))[:5000]}
    run = outcome.run
    if outcome.better and config.promotion.refit:
        run = refit(config, overrides, outcome, observer)
        say(
            "the model that is registered was trained once more, on train and val together; its "
            "evidence and its temperatures are those of the trainings above, which have not seen "
            "val"
        )
        tags["flowersweep.evidence_run"] = outcome.run
    return _registered(
        config,
        run,
        tags,
        say,
        better=outcome.better,
        evidence=evidence,
        compared_with=str(before.version) if before else "",
    )


def _opponent(trained: Config, champion: ModelVersion | None) -> Opponent:
    """Return what a candidate is compared with on the holdout of ``trained``."""
    dir = Path(trained.dir)
    count = partial(registry.count_comparison, trained.tracking, dir)
    note = None
    try:
        if champion is not None:
            run = registry.evidence_run(champion)
            predicted = predict_holdout(trained, run)
            count = partial(count, images=predicted.images, champion=f"run {run}")
            return Opponent(run, predicted.logits, count)
    except DataError as error:
        another = "promote into a registered model of its own: tracking.registered_model=NAME"
        raise DataError(f"the champion cannot be compared with: {error}; or {another}") from error
    except ModelGone as gone:
        note = f"The champion cannot be compared with: {gone}."
    dataset = open_dataset(trained.data, dir / "cache", trusted=tuple(trained.trusted_modules))
    images = holdout_name(dataset, trained)
    return Opponent(None, None, partial(count, images=images, champion=None), note)


def _champion_already(
    config: Config, champion: ModelVersion, evidence: dict[str, Any], say: Say
) -> Promoted:
    """Say that the chosen model is the champion; write what a killed command did not."""
    dir = Path(config.dir)
    if not champion.description and "flowersweep.forced" not in champion.tags:
        lost = "Its comparison with the champion before it is not known."
        alone = {**evidence, "against_champion": None, "champion": None, "no_champion": lost}
        _attach(config, champion, alone)
        say("the evidence of its promotion was missing, and is written now")
    version = registry.move_alias(champion, config.tracking, dir)
    say(f"{champion.name} version {champion.version} is the champion already")
    if claim := champion.tags.get("flowersweep.claim"):
        say(claim)
    return Promoted(version, registry.CHAMPION, champion, moved=False)


def _attach(config: Config, version: ModelVersion, evidence: Mapping[str, Any] | None) -> None:
    """Write a version's card, and the evidence of its promotion as files of its run."""
    dir, files = Path(config.dir), {}
    if evidence:
        files = {"evidence.json": json.dumps(evidence, indent=1), "evidence.html": html(evidence)}
    facts = registry.model_metadata(config.tracking, dir, run=str(version.run_id))
    card = model_card(facts, evidence, version.tags)
    registry.attach(version, config.tracking, dir, description=card, files=files)


def _promoted_run(config: Config, say: Say) -> Promoted:
    """Run the gate for the model of one run, which has a single seed, and register what it says."""
    dir, run = Path(config.dir), str(config.run)
    before = registry.holder(config.tracking, dir)
    if before is not None and run in (before.run_id, registry.evidence_run(before)):
        return _registered(config, run, {}, say, better=True)
    trained = replace(
        config, data=Data(**registry.model_metadata(config.tracking, dir, run=run)["data"])
    )
    challenger = predict_holdout(trained, run)
    against = _opponent(trained, before)
    comparison = against.count_comparison(challenger=f"run {run}")
    chance = compare_with_chance([challenger.logits], challenger.labels, comparison=comparison)
    gain = chance_sentence(to_dict(chance), len(challenger.labels))
    say("\n".join(filter(None, [against.note, gain])))
    better = chance.better
    if against.logits is not None:
        difference = compare_with_champion(
            [challenger.logits],
            against.logits,
            challenger.labels,
            [[challenger.logits]],
            comparison=comparison,
        )
        better = better and difference.better
        interval = (
            f"{100 * difference.confidence:.4g} % interval {difference.low:+.4f} to "
            f"{difference.high:+.4f}, by the images alone"
        )
        gain = (
            f"{difference.value:+.4f} macro F1 on "
            f"{quantity(len(challenger.labels), 'held-out image')} ({interval})"
        )
        say(
            f"against the champion: {gain}; what other seeds would give is not known of a single "
            "run"
        )
    say(uses_sentence(comparison))
    return _registered(
        config,
        run,
        {"flowersweep.claim": gain},
        say,
        better=better,
        compared_with=str(before.version) if before else "",
    )


def _registered(
    config: Config,
    run: str | None,
    tags: Tags,
    say: Say,
    *,
    better: bool,
    evidence: Mapping[str, Any] | None = None,
    compared_with: str | None = None,
) -> Promoted:
    """Register a model with its evidence as champion or challenger."""
    alias, dir = registry.CHAMPION if better else registry.CHALLENGER, Path(config.dir)
    tags = {**({} if run else promotion_evidence(config)), **tags}
    before = registry.holder(config.tracking, dir, alias)
    version = registry.register(
        config.study or "", config.tracking, dir, run=run or best_run(config), evidence=tags
    )
    if evidence or not version.description:  # before the alias moves: no champion is without
        _attach(config, version, evidence)
    version = registry.move_alias(
        version, config.tracking, dir, alias=alias, compared_with=compared_with if better else None
    )
    say(f"{version.name} version {version.version} is now {alias} (run {version.run_id})")
    return Promoted(version, alias, before)


def _restored(config: Config, say: Say) -> Promoted:
    """Make an earlier version the champion again."""
    if not config.force or config.study or config.run:
        raise ConfigError(
            f"no gate is asked to go back to a version: promote version={config.version} "
            'force=true reason="..."'
        )
    version = registry.restore(
        int(config.version or 0), config.tracking, Path(config.dir), reason=str(config.reason)
    )
    say(
        f"{version.name} version {version.version} is {registry.CHAMPION} again (run "
        f"{version.run_id})"
    )
    return Promoted(version, registry.CHAMPION, moved=False)
