"""What a shell offers after Tab: verbs, groups and their options, keys and their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowersweep.config.files import group_names, option_names
from flowersweep.config.keys import choices_of, has_options, is_group, is_switch, known_paths
from flowersweep.errors import ConfigError

# Each asks `flowersweep --complete POSITION WORD`. Bash itself splits a word at "=".
SCRIPTS = {
    "bash": """_flowersweep() {
  local IFS=$'\\n' word="${COMP_LINE:0:COMP_POINT}"
  word="${word##* }"
  COMPREPLY=($(flowersweep --complete "$COMP_CWORD" "$word" 2>/dev/null))
  if [[ "$word" == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}"); fi
}
complete -o nospace -o default -F _flowersweep flowersweep""",
    "zsh": """_flowersweep() {
  compadd -S '' -- ${(f)"$(flowersweep --complete $((CURRENT - 1)) "$words[CURRENT]" 2>/dev/null)"}
}
(( $+functions[compdef] )) || { autoload -Uz compinit; compinit }
compdef _flowersweep flowersweep""",
    "fish": """complete -c flowersweep -f -a \
'(flowersweep --complete (count (commandline -opc)) (commandline -ct) 2>/dev/null)'""",
}
STUDIES = ("study", "sweep.import_from", "ensemble.members")  # keys that name studies


def answer(words: Sequence[str]) -> str:
    """Return the script of ``--completion SHELL``, or the candidates of ``--complete POSITION
    WORD``, one a line.

    Raises:
        ConfigError: There is no script for this shell.
    """
    if words[0] == "--complete":
        position, word = words[1:3] if len(words) > 2 else ("1", "")
        return "\n".join(candidates(word, first=position == "1"))
    if words[1:] and words[1] in SCRIPTS:
        return SCRIPTS[words[1]]
    raise ConfigError(f"which shell? --completion {' or '.join(SCRIPTS)}")


def candidates(word: str, *, first: bool) -> list[str]:
    """Return what a word may become; the verbs too if it is the first.

    >>> candidates("+sweep=smoo", first=False)
    ['+sweep=smoothing']
    """
    key, equals, _ = word.partition("=")
    if equals:
        offered = [f"{key}={value}" for value in _values(key.lstrip("+"))]
    else:
        groups = [f"{group}=" for group in group_names() if group != "verb"]
        leaves = [f"{path}=" for path in known_paths() if not is_group(path)]
        offered = [*(option_names("verb") if first else []), "+sweep=", *groups, *leaves]
    return sorted({each for each in offered if each.startswith(word)})


def _values(key: str) -> list[str]:
    """Return the values of a key or group, where there is a list of them."""
    if key == "sweep" or has_options(key):
        return option_names(key)
    if key in STUDIES:
        return [path.parent.name for path in Path("mlruns", "studies").glob("*/journal.jsonl")]
    if is_switch(key):
        return ["true", "false"]
    return [choice or "null" for choice in choices_of(key)]
