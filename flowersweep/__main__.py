"""``python -m flowersweep [VERB] key=value ...``: the first bare word is sugar for ``verb=``;
everything else is Hydra's grammar.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence

from flowersweep import signals
from flowersweep.errors import FlowersweepError
from flowersweep.util import environment


def overrides(words: Sequence[str]) -> list[str]:
    """Return the words as overrides: a first word without ``=`` names the verb, and ``studies=a,b``
    is a list.
    """
    words = [re.sub(r"^studies=((?![\['\"]).*)$", r"studies=[\1]", word) for word in words]
    if words and "=" not in words[0] and not words[0].startswith(("+", "~", "-")):
        return [*words[1:], f"verb={words[0]}"]
    return list(words)


def main(words: Sequence[str]) -> int:
    """Run one command; return its exit code: 0 done, 1 error, 3 refused by the gate, 130
    interrupted.
    """
    if sys.platform == "win32":
        print("flowersweep needs Linux or macOS; on Windows use WSL", file=sys.stderr)
        return 1
    signals.install_handlers()  # a polite end is an interrupt: the journal is closed in order
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        if {"-h", "--help", "-V", "--version"} & set(words) or words[:1] in (["help"], ["version"]):
            from flowersweep.cli.help import text, version

            print(version() if {"-V", "--version", "version"} & set(words) else text(), end="")
            return 0
        if words[:1] in (["--completion"], ["--complete"]):
            from flowersweep.cli.completion import answer

            print(answer(words))
            return 0
        environment.require_assertions()
        from flowersweep.cli import require_hosts, require_libraries
        from flowersweep.cli.words import require_words
        from flowersweep.config.compose import compose
        from flowersweep.config.targets import resolve

        require_words(words)
        asked = overrides(words)
        config = compose(asked)
        verb = resolve(config.verb, "verb", config.trusted_modules)
        require_hosts(verb, config)
        require_libraries(verb)
        return int(verb(config, asked) or 0)
    except FlowersweepError as error:
        from flowersweep.tracking.masking import masked_message

        print(f"{type(error).__name__}: {masked_message(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def command_line() -> int:
    """Run the command of this process, wherever it was started; return its exit code."""
    if sys.platform != "win32":
        environment.use_utf8()
        environment.open_streams()
        environment.name_user()
        return environment.close_streams(main(sys.argv[1:]))
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(command_line())
