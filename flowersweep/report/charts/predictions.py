"""Charts of what a trained network predicts on holdout: confusion and calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowersweep.evaluation.calibration import Reliability, reliability, temperature
from flowersweep.evaluation.scores import Counts, confusion
from flowersweep.report.charts.plotting import COLOURS, Chart, Trace, axis, scatter
from flowersweep.report.study_view import Predictions
from flowersweep.util.text import quantity

WRITTEN = 24  # classes at most whose names stand at the matrix


def matrix(predictions: Predictions, names: Sequence[str], *, name: str = "confusion") -> Chart:
    """Return the share of each true class that was predicted as each other class.

    The diagonal, which is right, is left out of the scale.
    """
    counts = confusion(predictions.holdout, predictions.holdout_labels)
    many = len(names) > WRITTEN
    ends = [-0.5, len(names) - 0.5]
    line = scatter(
        ends,
        ends,
        mode="lines",
        line={"color": COLOURS["pruned"], "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )
    ticks = {} if many else {"tickvals": [*range(len(names))], "ticktext": [*names]}
    layout = {
        "xaxis": axis("predicted class", range=ends, **ticks),
        "yaxis": axis("true class", range=ends[::-1], **ticks),
        "height": 460,
    }
    return Chart(
        name,
        {"data": [line, _squares(counts, names, size=6 if many else 13)], "layout": layout},
        (
            f"confusion of {len(names)} classes, {int(counts.sum() - np.trace(counts))} of "
            f"{quantity(int(counts.sum()), 'image')} wrong"
        ),
        (
            "Each square is a pair of classes, the darker the more of the true class were "
            "mistaken. On the dotted line lies what is right."
        ),
    )


def _squares(counts: Counts, names: Sequence[str], *, size: int) -> Trace:
    """Return a square for each pair of classes that was mistaken; counts (K, K) by true class."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = shares - np.diag(np.diag(shares))
    pairs = [(int(t), int(p)) for t, p in np.argwhere(wrong > 0)]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [p for _, p in pairs],
        "y": [t for t, _ in pairs],
        "text": [
            f"{names[t]} taken for {names[p]}: {counts[t, p]} of {counts[t].sum()}"
            for t, p in pairs
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": "square",
            "size": size,
            "color": [float(wrong[t, p]) for t, p in pairs],
            "colorscale": [[0, "#e8b48a"], [0.5, "#e07b00"], [1, "#8f2a00"]],
            "cmin": 0,
            "showscale": False,
        },
        "cliponaxis": False,
        "showlegend": False,
    }


def calibration(predictions: Predictions) -> Chart:
    """Return how often the network is right by how sure it is.

    One line is of the training as it is, one at the temperature that was fitted on tune.
    """
    fitted = temperature(predictions.tune, predictions.tune_labels)
    plain = reliability(predictions.holdout, predictions.holdout_labels)
    scaled = reliability(predictions.holdout, predictions.holdout_labels, temperature=fitted)
    line = {"color": COLOURS["pruned"], "dash": "dot", "width": 1.5}
    traces = [
        scatter([0, 1], [0, 1], mode="lines", line=line, hoverinfo="skip", showlegend=False),
        _bins("as it is", plain, COLOURS["complete"], "circle"),
        _bins(f"temperature {fitted:.2f}", scaled, COLOURS["best"], "diamond"),
    ]
    layout = {
        "xaxis": axis("confidence", range=[0, 1.04], tickformat=".0%"),
        "yaxis": axis("right", range=[0, 1.04], tickformat=".0%"),
    }
    note = (
        f"Expected calibration error {plain.error:.3f} as it is, {scaled.error:.3f} at the "
        "temperature that tune asks for. Size: images."
    )
    return Chart(
        "calibration",
        {"data": traces, "layout": {**layout, "height": 360}},
        "how often predictions are right by confidence",
        note,
    )


def _bins(name: str, reliability: Reliability, colour: str, symbol: str) -> Trace:
    there = reliability.images > 0
    sizes = (6 + 12 * np.sqrt(reliability.images[there] / reliability.images.sum())).tolist()
    text = [f"{name}: {quantity(count, 'image')}" for count in reliability.images[there].tolist()]
    marker = {
        "color": colour,
        "symbol": symbol,
        "size": sizes,
        "line": {"width": 0},
        "opacity": 0.85,
    }
    hover = "%{text}, confidence %{x:.0%}, right %{y:.0%}<extra></extra>"
    more = {
        "name": name,
        "text": text,
        "hovertemplate": hover,
        "marker": marker,
        "line": {"color": colour, "width": 1},
        "cliponaxis": False,
    }
    return scatter(
        reliability.confidence[there].tolist(),
        reliability.accuracy[there].tolist(),
        mode="lines+markers",
        **more,
    )
