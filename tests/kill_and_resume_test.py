import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks/kill_and_resume.py"


@pytest.mark.slow
@pytest.mark.parametrize(("command", "num_kills"), [("train", 4), ("reproduce", 2)])
def test_what_is_killed_ends_as_if_left_alone(tmp_path, command, num_kills):
    """In its data, soon again, in a checkpoint, in its results; `run_test` stops it in an epoch."""
    result = tmp_path / "result.json"
    process = subprocess.run(
        [
            sys.executable,
            SCRIPT,
            f"--command={command}",
            f"--kills={num_kills}",
            f"--json={result}",
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    found = json.loads(result.read_text())
    # On a machine that is busy elsewhere a checkpoint may be over before it is seen.
    assert len({kill["kind"] for kill in found["kills"]}) >= num_kills - 1
    assert len(found["kills"]) == num_kills
    assert [run["wrong"] for run in found["runs"]] == [[]] * len(found["runs"])
