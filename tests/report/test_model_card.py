"""A registered model's description says what it is, what is known of it, and what is not."""

from __future__ import annotations

from flowersweep.report.model_card import model_card

FACTS = {
    "classes": [f"flower {number}" for number in range(30)],
    "data": {"name": "mine", "train_on": "all", "resize": "crop"},
    "study": "smoothing",
    "trial": 7,
    "input": "uint8 (-1, 96, 96, 3): RGB, 0 to 255, not scaled",
}


def test_a_card_names_data_evidence_and_limits() -> None:
    card = model_card(FACTS, None, {"flowersweep.claim": "+0.02 macro F1 on 520 held-out images"})
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "## Data",
        "## Evidence",
        "## Limits",
    ]
    assert "30 classes: flower 0, flower 1," in card
    assert "flower 19 and 10 more" in card
    assert "trained on train and val of `data=mine`, study smoothing, trial 7" in card
    assert "(-1, 96, 96, 3)" in card
    assert "(crop)" in card
    assert "+0.02 macro F1 on 520 held-out images" in card


def test_a_card_of_a_model_without_evidence_says_so() -> None:
    forced = model_card(FACTS, None, {"flowersweep.forced": "for a demonstration"})
    assert "The gate was not asked about this model. Reason: for a demonstration" in forced
    assert "Nothing is known of how good it is" in model_card(FACTS, None, {})
