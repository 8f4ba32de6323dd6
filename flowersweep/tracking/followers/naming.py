"""How the runs of a study are called, and which tags of the user's they carry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from string import Formatter
from typing import Any

from flowersweep.errors import ConfigError, did_you_mean
from flowersweep.study.records import StudyRecord
from flowersweep.tracking.masking import MASK, masked_text, secret

LONGEST_NAME = 250
ABSENT = "-"  # a parameter that the trial does not have


class _Names(Formatter):
    """Fills in plain names only, so that a template reaches no attribute of anything."""

    def get_field(
        self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, str]:
        return kwargs.get(field_name, ABSENT), field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        try:
            return format(value, format_spec or (".4g" if isinstance(value, float) else ""))
        except (ValueError, TypeError):  # a number's format for an option's name
            return str(value)


def run_name(record: StudyRecord, trial: int | None = None) -> str:
    """Return the name of the run of a trial, or of the study itself.

    A name without fields is that of the study; trials add their number. A template names trials.
    """
    study, template = record.started.study, record.run_name or ""
    is_template = bool(_fields(template))
    if trial is None or not is_template:
        name = study if is_template or not template else template
        number = "" if trial is None else f"-{trial:04d}"
        return masked_text(name)[: LONGEST_NAME - len(number)] + number
    params = {
        name: MASK if secret(name) else value for name, value in record.trials[trial].params.items()
    }
    name = _Names().vformat(template, (), {**params, "study": study, "trial": trial})
    return masked_text(name)[:LONGEST_NAME] or f"{study}-{trial:04d}"


def shown_tags(record: StudyRecord) -> dict[str, str]:
    """Return the user's tags, with secrets masked."""
    return {
        name: MASK if secret(name) else masked_text(value) for name, value in record.tags.items()
    }


def require_run_name(template: str | None, params: Collection[str]) -> None:
    """Raise ConfigError if a template names what no trial of the study has."""
    known = ("study", "trial", *params)
    for name in _fields(template or ""):
        if name not in known:
            raise ConfigError(
                f"tracking.run_name={template}: there is no {{{name}}}. "
                f"{did_you_mean(name, known, 'Fields')}"
            )


def _fields(template: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(template) if field is not None]
