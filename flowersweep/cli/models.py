"""Verbs about one model: promote it, predict with it, replay its training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flowersweep.cli.hints import RUN, folder_of_study, same_store, studies
from flowersweep.config.schema import Config, Data
from flowersweep.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from flowersweep.workflows.promotion import Opponent


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
    from flowersweep.report.evidence import html, markdown, rows, sentences
    from flowersweep.tracking import registry
    from flowersweep.workflows.ensemble_promotion import is_ensemble_study, run_ensemble_promotion
    from flowersweep.workflows.predict import predict_holdout
    from flowersweep.workflows.promotion import Opponent, refit, run_promotion

    folder_of_study(config, str(config.study))
    dir, progress = Path(config.dir), Progress(config.progress)
    before = registry.holder(config.tracking, dir)

    def opponent(trained: Config, champion_run: str) -> Opponent:
        try:
            predicted = predict_holdout(trained, run=champion_run)
        except DataError as error:
            another = "promote into a registered model of its own: tracking.registered_model=NAME"
            raise DataError(
                f"the champion cannot be compared with: {error}; or {another}"
            ) from error
        what = {"images": predicted.images, "champion": f"run {champion_run}"}
        return Opponent(
            champion_run,
            predicted.logits,
            partial(registry.count_comparison, config.tracking, dir, **what),
        )

    run_gate = run_ensemble_promotion if is_ensemble_study(config) else run_promotion
    try:
        outcome = run_gate(
            config,
            overrides,
            partial(opponent, champion_run=registry.evidence_run(before)) if before else None,
            features=progress.features,
            watch=progress.trial,
        )
    finally:
        progress.close()
    if before and registry.evidence_run(before) == outcome.run:
        print(f"{before.name} version {before.version} is the champion already")
        return 0
    evidence = {
        **outcome.evidence,
        "champion": {"version": before.version, "run": before.run_id} if before else None,
    }
    print("\n".join([table(rows(evidence)), "", *sentences(evidence)]))
    files = {"evidence.json": json.dumps(evidence, indent=1), "evidence.html": html(evidence)}
    tags = {"flowersweep.claim": " ".join(sentences(evidence))[:5000]}
    run = outcome.run
    if outcome.better and config.promotion.refit and outcome.params is not None:
        run = refit(
            config, overrides, outcome.params, features=progress.features, watch=progress.trial
        )
        progress.close()
        print(
            "the model that is registered was trained once more, on train and val together; its "
            "evidence is that of the trainings above, which have not seen val"
        )
        tags["flowersweep.evidence_run"] = outcome.run
    return _promoted(
        config,
        run,
        tags,
        better=outcome.better,
        description=markdown(evidence),
        files=files,
    )


def _gate_of_run(config: Config) -> int:
    """Run the gate for the model of one run, which has a single seed; return the exit code."""
    from flowersweep.evaluation.gate import compare_with_champion
    from flowersweep.report.evidence import uses_sentence
    from flowersweep.tracking import registry
    from flowersweep.workflows.predict import predict_holdout

    dir = Path(config.dir)
    before = registry.holder(config.tracking, dir)
    if before is None or config.run in (before.run_id, registry.evidence_run(before)):
        return _promoted(config, config.run, {}, better=True)
    trained = replace(
        config, data=Data(**registry.model_metadata(config.tracking, dir, run=config.run)["data"])
    )
    challenger = predict_holdout(trained, run=config.run)
    champion = predict_holdout(trained, run=registry.evidence_run(before))
    comparison = registry.count_comparison(
        config.tracking,
        dir,
        images=challenger.images,
        challenger=f"run {config.run}",
        champion=f"run {before.run_id}",
    )
    difference = compare_with_champion(
        [challenger.logits],
        champion.logits,
        challenger.labels,
        [[challenger.logits]],
        comparison=comparison,
    )
    interval = (
        f"{100 * difference.confidence:.4g} % interval {difference.low:+.4f} to "
        f"{difference.high:+.4f}, by the images alone"
    )
    gain = (
        f"{difference.value:+.4f} macro F1 on {len(challenger.labels)} held-out images ({interval})"
    )
    print(f"against the champion: {gain}; what other seeds would give is not known of a single run")
    print(uses_sentence(comparison))
    return _promoted(config, config.run, {"flowersweep.claim": gain}, better=difference.better)


def _promoted(
    config: Config,
    run: str | None,
    tags: Mapping[str, str],
    *,
    better: bool,
    description: str = "",
    files: Mapping[str, str] | None = None,
) -> int:
    """Register a model with its evidence as champion or challenger; return the exit code."""
    from flowersweep.tracking import registry
    from flowersweep.workflows.promotion import promotion_evidence

    alias, dir = registry.CHAMPION if better else registry.CHALLENGER, Path(config.dir)
    run = run or config.run
    evidence = {**({} if run else promotion_evidence(config)), **tags}
    before = registry.holder(config.tracking, dir, alias)
    version = registry.promote(
        config.study or "", config.tracking, dir, run=run, alias=alias, evidence=evidence
    )
    if description or files:
        registry.attach(version, config.tracking, dir, description=description, files=files or {})
    print(f"{version.name} version {version.version} is now {alias} (run {version.run_id})")
    print(f"predict with it:     {RUN} predict alias={alias} split=test{same_store(config)}")
    if better and before and str(before.version) != str(version.version):
        print(
            f"go back:             {RUN} promote version={before.version} force=true "
            f'reason="..."{same_store(config)}'
        )
    return 0 if better else 3


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


def predict(config: Config, overrides: Sequence[str]) -> None:
    """Write the predictions of a registered model as a submission file (``id,label``)."""
    from flowersweep.workflows.predict import predict as run

    submission = run(config, overrides)
    print(f"wrote {submission.path}: {submission.images} images of {config.split}")
    if config.tta_views > 1:
        print(
            f"{submission.changed} labels are not those of one view (the image alone, tta_views=1)"
        )


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
