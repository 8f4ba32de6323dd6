"""The card of a registered model: its data, evidence, intervals and limits, as its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowersweep.report.evidence import markdown

_NAMED = 20  # class names


def model_card(
    facts: Mapping[str, Any], evidence: Mapping[str, Any] | None, tags: Mapping[str, str]
) -> str:
    """Return the card as Markdown.

    Args:
        facts: Metadata of the model: classes, data, study, trial.
        evidence: That of the gate of a study; None for another model.
        tags: What the version says of its promotion.
    """
    classes, data = [str(name) for name in facts["classes"]], facts.get("data", {})
    named = ", ".join(classes[:_NAMED]) + f" and {len(classes) - _NAMED} more" * (
        len(classes) > _NAMED
    )
    trained_on = "train and val" if data.get("train_on") == "all" else "train"
    data_lines = [
        f"- {len(classes)} classes: {named}",
        f"- trained on {trained_on} of `data={data.get('name')}`, study {facts.get('study')}, "
        f"trial {facts.get('trial')}",
        f"- images: {facts.get('input', 'unknown')}; others are brought to this size "
        f"({data.get('resize', 'stretch')})",
    ]
    if pseudo := facts.get("pseudo_labels"):
        data_lines.append(f"- {pseudo['images']} images trained on by {pseudo['remark']}")
    shown = markdown(evidence) if evidence else _claim(tags)
    return "\n\n".join(
        ["## Data", "\n".join(data_lines), "## Evidence", shown, "## Limits", "\n".join(_LIMITS)]
    )


_LIMITS = (
    "- It knows its classes alone: an image of anything else gets one of them.",
    "- Scores and probabilities hold for images like those of val. Other cameras, places or shares "
    "of the classes change both.",
    "- An interval counts other images of the same kind, and other seeds where it says so. It does "
    "not count wrong labels or near-duplicates across splits: see the study's report.",
)


def _claim(tags: Mapping[str, str]) -> str:
    """Return what is known of a model that was not compared with others of a study."""
    if reason := tags.get("flowersweep.forced"):
        return f"The gate was not asked about this model. Reason: {reason}"
    return tags.get("flowersweep.claim", "Nothing is known of how good it is.")
