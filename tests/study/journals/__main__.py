"""Write the journal of a tiny study into this folder, with nothing in it of the machine."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from flowersweep.__main__ import main
from flowersweep.study.events import FORMAT
from tests.conftest import tiny_model
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
        text = Path("mlruns/studies/old/journal.jsonl").read_text()
        started, *others = text.replace(os.path.realpath(folder), ".").splitlines()
        event = json.loads(started)
        event["provenance"]["host"] = "somewhere"
        target.write_text("\n".join([json.dumps(event, separators=(",", ":")), *others, ""]))
    print(f"wrote {target.name}")
