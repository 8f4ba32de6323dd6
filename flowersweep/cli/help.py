"""The text of ``--help``: verbs, groups and sweeps, read from the files that define them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from flowersweep.config.files import group_names, option_names, sweep_files


def text() -> str:
    """Return the help page."""
    verbs = "  ".join(option_names("verb"))
    groups = "\n".join(
        f"  {group}: {', '.join(option_names(group))}" for group in group_names() if group != "verb"
    )
    sweeps = "\n".join(
        f"  +sweep={name}: {_question(path)}" for name, path in sweep_files().items()
    )
    return f"""python -m flowersweep [VERB] [GROUP=OPTION ...] [KEY=VALUE ...] [+sweep=NAME]
python -m flowersweep --help | --version | --completion bash|zsh|fish

  python -m flowersweep                             one training with the defaults
  python -m flowersweep +sweep=smoothing            a sweep; the same command again goes on with it
  python -m flowersweep +sweep=smoothing sweep.n_trials=50 data=folder data.dir=PATH
  python -m flowersweep auto data=folder data.dir=PATH sweep.budget.minutes=10
                                                    sweeps, an ensemble and a promotion at once
  python -m flowersweep plan +sweep=smoothing       its space, samples, minutes and bytes, \
before anything is trained
  python -m flowersweep status study=smoothing      how far it is, from another terminal
  python -m flowersweep trials study=smoothing      all trials as a table; format=csv or json
  python -m flowersweep report study=smoothing      one page about it; studies=a,b compares
  python -m flowersweep serve                       the studies as live pages in the browser
  python -m flowersweep ui                          compare runs in MLflow
  python -m flowersweep promote study=smoothing     register the best model as champion
  python -m flowersweep predict images=photos       write predictions.csv
  python -m flowersweep export format=onnx          write the champion for other programs

Verbs: {verbs}   ("config" prints every key with its value)

Groups:
{groups}

Sweeps:
{sweeps}

Your own options and sweeps go into ./conf/GROUP/NAME.yaml and ./sweeps/NAME.yaml. \
Documentation: docs/
"""


def version() -> str:
    """Return the line of ``--version``."""
    return f"flowersweep {metadata.version('flowersweep')}\n"


def _question(file: Path) -> str:
    """Return the first sentence of a file's leading comment."""
    try:
        yaml = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "(cannot be read)"
    comment = " ".join(line.lstrip("# ") for line in yaml.splitlines() if line.startswith("#"))
    return comment.partition("? ")[0] + "?" if "? " in comment else comment or "(no comment)"
