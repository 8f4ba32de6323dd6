"""Write the journal of a tiny study into this folder, with nothing in it of the machine."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from flowersweep.__main__ import main
from flowersweep.study.events import FORMAT
from tests.conftest import tiny_model
from tests.events import lines
from tests.study.journals import FOLDER, TRIALS, WORDS

if __name__ == "__main__":
    target = FOLDER.resolve() / f"format{FORMAT}.jsonl"
    if target.exists():
        raise SystemExit(f"{target.name} is there, and must stay as it was written")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tiny_model(Path(folder))
        if code := main([*WORDS, f"sweep.n_trials={TRIALS}"]):
            raise SystemExit(code)
        events = lines(Path("mlruns/studies/old"))
        events[0]["provenance"]["host"] = "somewhere"
        text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        target.write_text(text.replace(os.path.realpath(folder), "."))  # so it has no checksums
    print(f"wrote {target.name}")
