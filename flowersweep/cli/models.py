"""Verbs about one model's training: promote it, replay it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flowersweep.cli.hints import RUN, folder_of_study, same_store, studies
from flowersweep.config.schema import Config, Data
from flowersweep.errors import ConfigError, DataError, ModelGone, did_you_mean
from flowersweep.util.text import quantity

if TYPE_CHECKING:
    from flowersweep.tracking.registry import ModelVersion
    from flowersweep.workflows.promotion.choice import Opponent


def promote(config: Config, overrides: Sequence[str]) -> int:
    """Retrain a study's best configurations and promote the chosen model if it passes the gate.

    Returns:
        Exit code: 0 if the model is now champion, 3 if the gate refused.
    """
    if config.force != bool(config.reason):
        raise ConfigError(
            "force=true wants a reason, and a reason wants force=true: promote study=NAME "
            'force=true reason="..."'
        )
    if config.version is not None:
        return _restored(config)
    if not config.study and not config.run:
        raise ConfigError(
            f"whose best model? {RUN} promote study=NAME. "
            + did_you_mean("", studies(config), "Studies")
        )
    if config.force:
        return _promoted(config, None, {"flowersweep.forced": str(config.reason)}, better=True)
    if not config.tracking.enabled:
        raise ConfigError("the registry is MLflow's: promote without tracking.enabled=false")
    return _gate_of_run(config) if config.run else _gate(config, overrides)


def _gate(config: Config, overrides: Sequence[str]) -> int:
    """Run the promotion gate for a study; return the exit code."""
    from flowersweep.cli.console import Progress, table
    from flowersweep.report.evidence import rows, sentences
    from flowersweep.tracking import registry
    from flowersweep.workflows.promotion.ensemble import is_ensemble_study, run_ensemble_promotion
    from flowersweep.workflows.promotion.refit import refit
    from flowersweep.workflows.promotion.retraining import Observer
    from flowersweep.workflows.promotion.single import run_promotion

    folder_of_study(config, str(config.study))
    progress = Progress(config.progress)
    observer = Observer(progress.features, progress.trial)
    before = registry.holder(config.tracking, Path(config.dir))
    run_gate = run_ensemble_promotion if is_ensemble_study(config) else run_promotion
    try:
        outcome = run_gate(config, overrides, partial(_opponent, champion=before), observer)
    finally:
        progress.close()
    if before and registry.evidence_run(before) == outcome.run:
        return _champion_already(config, before, outcome.evidence)
    evidence = {
        **outcome.evidence,
        "champion": {"version": before.version, "run": before.run_id} if before else None,
    }
    print("\n".join([table(rows(evidence)), "", *sentences(evidence)]))
    tags = {"flowersweep.claim": " ".join(sentences(evidence))[:5000]}
    run = outcome.run
    if outcome.better and config.promotion.refit:
        run = refit(config, overrides, outcome, observer)
        progress.close()
        print(
            "the model that is registered was trained once more, on train and val together; its "
            "evidence and its temperatures are those of the trainings above, which have not seen "
            "val"
        )
        tags["flowersweep.evidence_run"] = outcome.run
    return _promoted(
        config,
        run,
        tags,
        better=outcome.better,
        evidence=evidence,
        compared_with=str(before.version) if before else "",
    )


def _opponent(trained: Config, champion: ModelVersion | None) -> Opponent:
    """Return what a candidate is compared with on the holdout of ``trained``."""
    from flowersweep.data.dataset import open_dataset
    from flowersweep.tracking import registry
    from flowersweep.workflows.predict import holdout_name, predict_holdout
    from flowersweep.workflows.promotion.choice import Opponent

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


def _champion_already(config: Config, champion: ModelVersion, evidence: dict[str, Any]) -> int:
    """Say that the chosen model is the champion; write what a killed command did not."""
    from flowersweep.tracking import registry

    dir = Path(config.dir)
    if not champion.description and "flowersweep.forced" not in champion.tags:
        lost = "Its comparison with the champion before it is not known."
        alone = {**evidence, "against_champion": None, "champion": None, "no_champion": lost}
        _attach(config, champion, alone)
        print("the evidence of its promotion was missing, and is written now")
    registry.move_alias(champion, config.tracking, dir)
    print(f"{champion.name} version {champion.version} is the champion already")
    if claim := champion.tags.get("flowersweep.claim"):
        print(claim)
    return 0


def _attach(config: Config, version: ModelVersion, evidence: Mapping[str, Any] | None) -> None:
    """Write a version's card, and the evidence of its promotion as files of its run."""
    from flowersweep.report.evidence import html
    from flowersweep.report.model_card import model_card
    from flowersweep.tracking import registry

    dir, files = Path(config.dir), {}
    if evidence:
        files = {"evidence.json": json.dumps(evidence, indent=1), "evidence.html": html(evidence)}
    facts = registry.model_metadata(config.tracking, dir, run=str(version.run_id))
    card = model_card(facts, evidence, version.tags)
    registry.attach(version, config.tracking, dir, description=card, files=files)


def _gate_of_run(config: Config) -> int:
    """Run the gate for the model of one run, which has a single seed; return the exit code."""
    from flowersweep.evaluation.gate import compare_with_champion, compare_with_chance, to_dict
    from flowersweep.report.evidence import chance_sentence, uses_sentence
    from flowersweep.tracking import registry
    from flowersweep.workflows.predict import predict_holdout

    dir, run = Path(config.dir), str(config.run)
    before = registry.holder(config.tracking, dir)
    if before is not None and run in (before.run_id, registry.evidence_run(before)):
        return _promoted(config, run, {}, better=True)
    trained = replace(
        config, data=Data(**registry.model_metadata(config.tracking, dir, run=run)["data"])
    )
    challenger = predict_holdout(trained, run)
    against = _opponent(trained, before)
    comparison = against.count_comparison(challenger=f"run {run}")
    chance = compare_with_chance([challenger.logits], challenger.labels, comparison=comparison)
    gain = chance_sentence(to_dict(chance), len(challenger.labels))
    print("\n".join(filter(None, [against.note, gain])))
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
        print(
            f"against the champion: {gain}; what other seeds would give is not known of a single "
            "run"
        )
    print(uses_sentence(comparison))
    return _promoted(
        config,
        run,
        {"flowersweep.claim": gain},
        better=better,
        compared_with=str(before.version) if before else "",
    )


def _promoted(
    config: Config,
    run: str | None,
    tags: Mapping[str, str],
    *,
    better: bool,
    evidence: Mapping[str, Any] | None = None,
    compared_with: str | None = None,
) -> int:
    """Register a model with its evidence as champion or challenger; return the exit code."""
    from flowersweep.tracking import registry
    from flowersweep.workflows.promotion.searched_study import best_run, promotion_evidence

    alias, dir = registry.CHAMPION if better else registry.CHALLENGER, Path(config.dir)
    run = run or config.run
    tags = {**({} if run else promotion_evidence(config)), **tags}
    before = registry.holder(config.tracking, dir, alias)
    version = registry.register(
        config.study or "", config.tracking, dir, run=run or best_run(config), evidence=tags
    )
    if evidence or not version.description:  # before the alias moves: no champion is without
        _attach(config, version, evidence)
    registry.move_alias(
        version, config.tracking, dir, alias=alias, compared_with=compared_with if better else None
    )
    print(f"{version.name} version {version.version} is now {alias} (run {version.run_id})")
    print(f"predict with it:     {RUN} predict alias={alias} images=PATH{same_store(config)}")
    if _has_test(config):
        print(f"or the split test:   {RUN} predict alias={alias}{same_store(config)}")
    if better and before and str(before.version) != str(version.version):
        print(
            f"go back:             {RUN} promote version={before.version} force=true "
            f'reason="..."{same_store(config)}'
        )
    return 0 if better else 3


def _has_test(config: Config) -> bool:
    from flowersweep.study.records import read_study

    if not config.study:
        return False
    started = read_study(Path(config.dir) / "studies" / config.study).started
    return bool("test" in started.provenance.get("data", {}).get("counts", {}))


def _restored(config: Config) -> int:
    """Make an earlier version the champion again; return the exit code."""
    from flowersweep.tracking import registry

    if not config.force or config.study or config.run:
        raise ConfigError(
            f"no gate is asked to go back to a version: {RUN} promote version={config.version} "
            'force=true reason="..."'
        )
    version = registry.restore(
        int(config.version or 0), config.tracking, Path(config.dir), reason=str(config.reason)
    )
    print(
        f"{version.name} version {version.version} is {registry.CHAMPION} again (run "
        f"{version.run_id})"
    )
    return 0


def replay(config: Config, overrides: Sequence[str]) -> int:
    """Retrain a run from its MLflow record and print how many digits agree.

    Returns:
        Exit code: 0 if enough digits agree, else 3.
    """
    from flowersweep.cli.console import Progress, table
    from flowersweep.tracking.recorded import attach, load_run
    from flowersweep.workflows.replay import record, rows, verdict
    from flowersweep.workflows.replay import replay as run

    if not config.run:
        raise ConfigError(f"which run? {RUN} replay run=ID (the id on the run's page in MLflow)")
    dir, progress = Path(config.dir), Progress(config.progress)
    with TemporaryDirectory(prefix="flowersweep-") as scratch:
        recorded = load_run(config.run, config.tracking, dir, Path(scratch))
        try:
            result = run(
                recorded,
                config,
                overrides,
                features=progress.features,
                refused=dir / "replays" / recorded.run,
            )
        finally:
            progress.close()
    print(f"{recorded.name}, run {recorded.run}: {result.epochs} epochs trained again")
    print("\n".join([table(rows(result)), "", verdict(result)]))
    when = time.strftime("%Y-%m-%dT%H-%M-%S")
    report = json.dumps({"time": when, **record(result)}, indent=1)
    attach(
        recorded.run,
        config.tracking,
        dir,
        files={f"replay/{when}.json": report},
        tags={"flowersweep.replay": verdict(result)},
    )
    return 0 if result.agrees else 3
