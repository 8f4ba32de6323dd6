"""The evidence of a promotion, as a table, sentences, a page and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowersweep.report.page import Column, Listing, Section, Table, Text, render
from flowersweep.util.text import quantity


def rows(evidence: Mapping[str, Any]) -> list[list[str]]:
    """Return the candidates as a table, heading first.

    Scores are the mean over the seeds, with the range.
    """
    heading = [
        "candidate",
        "settings changed",
        "seeds",
        evidence["objective"],
        "holdout/macro_f1",
        "choice",
    ]
    candidates = evidence["candidates"]
    return [
        heading,
        *(
            _row(candidate, chosen=candidate["name"] == evidence["chosen"])
            for candidate in candidates
        ),
    ]


def sentences(evidence: Mapping[str, Any]) -> list[str]:
    """Return what is concluded from the table, and from how many trials it was picked."""
    images, against = evidence["images"], evidence["against_champion"]
    tune = quantity(images["tune"], "image")
    lines = [
        f"Chosen: {evidence['chosen']}, the {evidence['rule']} ({tune}). It was "
        "picked from "
        f"{evidence['picked_from']} trials of the study {evidence['study']}; the seeds here are "
        "fresh."
    ]
    if "members" in evidence:
        weights = (
            f"{_member(m)} {m['weight']:.3f} ({m['low']:.3f} to {m['high']:.3f})"
            for m in evidence["members"]
        )
        lines.append(
            f"Weights in {evidence['weighed']}, with the interval of the solver's weights "
            f"over the images of tune: {', '.join(weights)}."
        )
    if "promoted" in evidence:
        lines.append(_accuracy(evidence["promoted"]))
    if evidence.get("baselines"):
        lines.append(f"{evidence['baselines'][0].upper()}{evidence['baselines'][1:]}.")
    if "against_chance" in evidence:
        also = images["tune"] if evidence.get("cross_validated") else 0
        lines.append(chance_sentence(evidence["against_chance"], images["holdout"], also))
    if against is None:
        lines.append(evidence.get("no_champion", "There was no champion to compare with."))
        return lines
    confidence = f"{100 * against['confidence']:.4g} % interval"
    gain = (
        f"{against['value']:+.4f} macro F1 ({confidence} {against['low']:+.4f} to "
        f"{against['high']:+.4f})"
    )
    parts = (
        f"standard errors {against['images']:.4f} by the images, {against['seeds']:.4f} by the "
        "seeds"
    )
    judged = quantity(images["holdout"], "held-out image")
    lines.append(f"Against the champion on {judged}: {gain}; {parts}.")
    lines.append(uses_sentence(against["comparison"]))
    return [*lines, "The interval says better." if against["better"] else _unsettled(against)]


def _member(member: Mapping[str, Any]) -> str:
    networks = member.get("networks", 1)
    made_of = f", one network with the mean weights of {networks}," if networks > 1 else ""
    return f"{member['name']}{made_of}"


def chance_sentence(test: Mapping[str, Any], images: int, cross_validated: int = 0) -> str:
    """Say whether a model is better than its predictions for shuffled images."""
    also = f" and {cross_validated} cross-validated" if cross_validated else ""
    says = (
        "better than chance"
        if test["better"]
        else "not better than chance, so it cannot be the champion"
    )
    return (
        f"Macro F1 {test['value']:.4f} on {images} held-out{also} images; with shuffled labels "
        f"{test['chance']:.4f} on average (p {test['p']:.2g}, level {test['level']:.2g}): {says}."
    )


def uses_sentence(comparison: int) -> str:
    """Say how often these held-out images have decided, this time included, and what that costs."""
    count = "once" if comparison == 1 else "twice" if comparison == 2 else f"{comparison} times"
    cost = (
        ""
        if comparison == 1
        else (
            " The more often, the wider the interval, so that luck passes in at most 5 % of all "
            "promotions together."
        )
    )
    return f"This held-out half has been asked {count} whether a model may be champion.{cost}"


def html(evidence: Mapping[str, Any]) -> str:
    """Return the page, which needs nothing but itself."""
    heading, *body = rows(evidence)
    numeric = ("settings changed", "seeds")
    columns = [Column(title, title in numeric) for title in heading]
    chosen = next(
        (
            n
            for n, candidate in enumerate(evidence["candidates"])
            if candidate["name"] == evidence["chosen"]
        ),
        None,
    )
    sections = [
        Section("conclusion", "Conclusion", [Text(sentence) for sentence in sentences(evidence)]),
        Section(
            "candidates",
            "Candidates",
            [Table("Mean over the seeds, with the range", columns, body, best=chosen)],
        ),
        Section(
            "settings",
            "Settings",
            [Text("The settings of the chosen model:"), Listing(_settings(evidence))],
        ),
    ]
    return render(f"Promotion of {evidence['study']}", [], sections)


def markdown(evidence: Mapping[str, Any]) -> str:
    """Return the same as text for MLflow's description of a model version."""
    heading, *body = rows(evidence)
    lines = ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *body)]
    return "\n\n".join([*sentences(evidence), "\n".join(lines), f"```\n{_settings(evidence)}\n```"])


def _row(candidate: Mapping[str, Any], *, chosen: bool) -> list[str]:
    scores = [_spread(candidate["tune"]), _spread(candidate["holdout/macro_f1"])]
    return [
        candidate["name"],
        str(candidate["changes"]),
        str(len(candidate["tune"])),
        *scores,
        "chosen" if chosen else "",
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):z.4f} ({min(values):z.4f} to {max(values):z.4f})"


def _unsettled(against: Mapping[str, Any]) -> str:
    if against["value"] <= 0:
        return "It is not better on these images."
    remedies = [
        f"{against[f'more_{what}']} more {what}"
        for what in ("images", "seeds")
        if against[f"more_{what}"] is not None
    ]
    would = (
        f"{' or '.join(remedies)} would settle it, if the difference is the one seen."
        if remedies
        else "Neither images nor seeds alone would."
    )
    return f"Not settled. {would}"


def _accuracy(promoted: Mapping[str, Any]) -> str:
    low, high = promoted["interval"]
    sentence = (
        f"The model itself, one seed, has an accuracy of {promoted['holdout/accuracy']:.4f} (95 "
        f"% interval {low:.4f} to {high:.4f})."
    )
    test = promoted["mcnemar"]
    if test is None:
        return sentence
    alone = (
        f"It alone is right on {quantity(test['only_first'], 'image')}, the champion alone on "
        f"{test['only_second']}"
    )
    return f"{sentence} {alone} (McNemar's p {test['mid_p']:.3f})."


def _settings(evidence: Mapping[str, Any]) -> str:
    return "\n".join(f"{path}={value}" for path, value in evidence["settings"].items())
