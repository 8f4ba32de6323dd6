"""The evidence of a promotion as a page: what was trained, what was chosen and by which rule, and how it stands to the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
STYLE += "table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid #8886;text-align:left}"


def rows(evidence: Mapping[str, Any]) -> list[list[str]]:
    """Return the candidates as a table, heading first: the mean of each over its seeds, with the spread."""
    heading = ["candidate", "settings changed", "seeds", evidence["objective"], "holdout/macro_f1", ""]
    return [heading, *(_row(each, chosen=each["name"] == evidence["chosen"]) for each in evidence["candidates"])]


def sentences(evidence: Mapping[str, Any]) -> list[str]:
    """Return what is concluded from the table, and of how many trials it was picked."""
    images, against = evidence["images"], evidence["against_champion"]
    found = [
        f"Chosen: {evidence['chosen']}, the {evidence['rule']} ({images['tune']} images). It was picked from "
        f"{evidence['picked_from']} trials of the study {evidence['study']}; the seeds here are fresh."
    ]
    if "members" in evidence:
        weights = (f"{each['name']} {each['weight']:.3f} ({each['low']:.3f} to {each['high']:.3f})" for each in evidence["members"])
        found.append(f"Weights in {evidence['weighed']}, with the interval of the solver's over the images of tune: {', '.join(weights)}.")
    if "promoted" in evidence:
        found.append(_accuracy(evidence["promoted"]))
    if against is None:
        return [*found, "There was no champion to compare with."]
    gained = f"{against['value']:+.4f} macro F1 (95 % interval {against['low']:+.4f} to {against['high']:+.4f})"
    parts = f"standard errors {against['images']:.4f} by the images, {against['seeds']:.4f} by the seeds"
    found.append(f"Against the champion on {images['holdout']} held-out images: {gained}; {parts}.")
    return [*found, "The interval says better." if against["low"] > 0 else _unsettled(against)]


def html(evidence: Mapping[str, Any]) -> str:
    """Return the page, which needs nothing but itself."""
    heading, *body = rows(evidence)
    lines = [f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>" for tag, row in _tagged(heading, body)]
    told = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(evidence))
    title = f"Promotion of {escape(evidence['study'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}</h1>{told}<table>{''.join(lines)}</table>"
        f"<h2>Settings</h2><pre>{escape(_settings(evidence))}</pre></html>\n"
    )


def markdown(evidence: Mapping[str, Any]) -> str:
    """Return the same as text for MLflow's description of a model version."""
    heading, *body = rows(evidence)
    lines = ["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *body)]
    return "\n\n".join([*sentences(evidence), "\n".join(lines), f"```\n{_settings(evidence)}\n```"])


def _tagged(heading: list[str], body: list[list[str]]) -> list[tuple[str, list[str]]]:
    return [("th", heading), *(("td", row) for row in body)]


def _row(candidate: Mapping[str, Any], *, chosen: bool) -> list[str]:
    scores = [_spread(candidate["tune"]), _spread(candidate["holdout/macro_f1"])]
    return [candidate["name"], str(candidate["changes"]), str(len(candidate["tune"])), *scores, "chosen" if chosen else ""]


def _spread(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def _unsettled(against: Mapping[str, Any]) -> str:
    if against["value"] <= 0:
        return "It is not better on these images."
    ways = [f"{against[f'more_{what}']} more {what}" for what in ("images", "seeds") if against[f"more_{what}"] is not None]
    would = f"{' or '.join(ways)} would settle it, if the difference is the one seen." if ways else "Neither images nor seeds alone would."
    return f"Not settled. {would}"


def _accuracy(promoted: Mapping[str, Any]) -> str:
    low, high = promoted["interval"]
    told = f"The model itself, one seed, has an accuracy of {promoted['holdout/accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})."
    test = promoted["mcnemar"]
    if test is None:
        return told
    alone = f"It alone is right on {test['only_first']} images, the champion alone on {test['only_second']}"
    return f"{told} {alone} (McNemar's p {test['mid_p']:.3f})."


def _settings(evidence: Mapping[str, Any]) -> str:
    return "\n".join(f"{path}={value}" for path, value in evidence["settings"].items())
