"""Take a finished chart out of a study's page, as a Plotly figure.

New charts are written in ``charts/`` and listed in ``study_page.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowersweep.errors import StudyError, did_you_mean
from flowersweep.report.charts.plotting import Chart
from flowersweep.report.study_view import StudyView

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Figure


def charts(study: StudyView) -> dict[str, Chart]:
    """Return the charts of a study's page by name; what the study has too few trials for is left
    out.
    """
    from flowersweep.report.study_page import sections
    from flowersweep.report.summary import summarise

    return {chart.name: chart for part in sections(summarise(study)) for chart in part.charts}


def figure(study: StudyView, name: str) -> Figure:
    """Return one chart.

    Raises:
        StudyError: The study has no chart of this name.
    """
    from plotly.graph_objects import Figure

    known = charts(study)
    if name not in known:
        raise StudyError(
            f"the study {study.name} has no figure {name!r} (yet). "
            + did_you_mean(name, known, "Figures")
        )
    return Figure(known[name].figure, layout_title_text=known[name].label)
