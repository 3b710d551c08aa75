"""Resume and count a big traces folder: seconds and peak memory, as JSON.

python tests/perf/bench_store.py [--samples 1000000] [--folder DIR]

Writes a folder that lacks one sample and is out of order, then runs the stage in a process of its
own: it verifies and reads what is there, draws what is missing, sorts, counts, sums and writes the
manifest. Target for a million traces: 60 s and 1 GiB. `cpu_seconds` is what it takes on a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from traces_kit import make_partial, opener, settings, write_problems

from reasondistill.config import Cluster
from reasondistill.models.samplers.opening import Serving
from reasondistill.runs.store import list_anew
from reasondistill.stages.traces import run_traces

SAMPLES_EACH = 10
# The length of a GSM8K trace.
TEXT = "<think>" + "So 3 * 4 = 12 and the rest follows. " * 20 + "</think> \\boxed{12}"


def fill(folder: Path, problems: Path, samples: int) -> None:
    """A traces folder that lacks its last sample: one real trace, copied with other ids, in an
    order of its own.
    """
    run_traces(
        settings(n=1), problems, folder, Serving(Cluster(), opener(lambda request: TEXT)), limit=1
    )
    make_partial(folder)
    line = json.loads((folder / "traces.jsonl").read_text(encoding="utf-8"))
    text = json.dumps(
        line | {"id": "@ID", "problem_id": "@PROBLEM", "sample": -1}, separators=(",", ":")
    )
    with open(folder / "traces.jsonl", "w", encoding="utf-8") as file:
        for sample in range(SAMPLES_EACH):
            for problem in range(samples // SAMPLES_EACH):
                if (problem, sample) != (0, SAMPLES_EACH - 1):
                    name = f"sums/train/{problem}"
                    row = (
                        text.replace("@ID", f"{name}:{sample}")
                        .replace("@PROBLEM", name)
                        .replace('"sample":-1', f'"sample":{sample}')
                    )
                    file.write(row + "\n")
    list_anew(folder / "traces.jsonl")


def resume(folder: Path, problems: Path) -> None:
    started = time.monotonic()
    manifest = run_traces(
        settings(n=SAMPLES_EACH), problems, folder, Serving(Cluster(), opener(lambda request: TEXT))
    )
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "traces": manifest.counts["out"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time(), 1),
    }
    print(
        json.dumps(
            figures
            | {"peak_mib": round(peak), "file_mib": (folder / "traces.jsonl").stat().st_size >> 20}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--resume-only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.resume_only:
        resume(given.folder / "2-traces", given.folder / "1-problems")
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as root:
        problems = write_problems(Path(root) / "1-problems", given.samples // SAMPLES_EACH)
        fill(Path(root) / "2-traces", problems, given.samples)
        # A process of its own: the peak memory is that of resuming, not of filling.
        subprocess.run([sys.executable, __file__, "--resume-only", "--folder", root], check=True)


if __name__ == "__main__":
    main()
