"""What a folder of traces lacks: samples that the service lost, samples whose input was refused, and why.

lacking = read_missing(run / "2-traces")
lacking.words()          # "20 of 120 samples; 100 lost (HTTP 402: quota exhausted)"

A lost sample is drawn again by the next run, a refused one never comes. A share is never of either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasondistill import crew
from reasondistill.store import Manifest, read_manifest, read_rows

LOST, REFUSED = "lost", "refused"
CAUSES = "causes"
FILE, SET_ASIDE = "traces.jsonl", "set_aside.jsonl"
# A cause is a short text, and so many of them are told.
LONGEST_CAUSE, MOST_CAUSES = 160, 3


@dataclass(frozen=True)
class Missing:
    """How many samples were asked for and `drawn`, how many of these failed, and the `causes` of that with their counts."""

    asked: int = 0
    drawn: int = 0
    lost: int = 0
    refused: int = 0
    causes: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def failed(self) -> int:
        return self.lost + self.refused

    @property
    def answered(self) -> int:
        return self.drawn - self.failed

    def words(self) -> str:
        """`20 of 120 samples; 98 lost, 1 refused (HTTP 402 × 98; prompt too long × 1), 1 not drawn yet`."""
        parts = [f"{count:,} {name}" for name, count in ((LOST, self.lost), (REFUSED, self.refused)) if count]
        waiting = self.asked - self.drawn
        later = f", {waiting:,} not drawn yet" if waiting > 0 else ""
        return f"{self.answered:,} of {self.asked:,} samples; {', '.join(parts)}{in_brackets(self.causes)}{later}"

    def remedy(self, place: str) -> str:
        """What to do about it, as sentences; `place` is the folder's place in the run."""
        said = ["The same command draws the lost ones again."] if self.lost else []
        said += [f"What was refused is set aside: see {place}/{SET_ASIDE}."] if self.refused else []
        return " ".join(said)


def in_brackets(causes: Mapping[str, int]) -> str:
    """` (HTTP 402)`, or with counts where there are several; nothing without a cause."""
    ranked = sorted(causes.items(), key=lambda item: -item[1])
    if not ranked:
        return ""
    if len(ranked) == 1:
        return f" ({ranked[0][0]})"
    told = [f"{cause} × {count:,}" for cause, count in ranked[:MOST_CAUSES]]
    rest = len(ranked) - MOST_CAUSES
    more = [f"{rest} more causes"] if rest > 0 else []
    return f" ({'; '.join(told + more)})"


# What differs from one failure to the next of the same kind: tokens, long numbers, request ids. A status code stays.
_VARIES = re.compile(r"\b(?:\d[\d,]*(?= tokens)|\d{4,}|(?=\w*\d)[0-9a-f]{8,}(?:-[0-9a-f]+)*)\b")


def cause_of(error: str | None) -> str:
    """The first line of an error, cut where it is long, without what differs from one to the next: equal causes are counted."""
    line = " ".join((error or "").strip().partition("\n")[0].split()) or "no cause was told"
    line = _VARIES.sub("…", line)
    return line if len(line) <= LONGEST_CAUSE else line[: LONGEST_CAUSE - 1] + "…"


def failed_in(manifest: Manifest) -> int:
    """How many samples of a finished traces folder are lost or refused."""
    return manifest.counts.get("failed", 0) + manifest.counts.get("refused", 0)


def is_allowed(manifest: Manifest) -> bool:
    """Whether what a finished traces folder lost was allowed when it was finished.

    Earlier versions finished with any number of lost samples; they told no causes.
    """
    return CAUSES in manifest.figures


def read_missing(folder: Path) -> Missing:
    """What a traces folder lacks: by its manifest, or by its lines while it is not finished or tells no causes."""
    manifest = read_manifest(folder)
    if manifest is None:
        return Missing()
    if manifest.status == "complete" and (is_allowed(manifest) or not failed_in(manifest)):
        return _by_manifest(manifest)
    files = [part / FILE for part in (folder, *crew.worker_folders(folder))]
    return _by_rows((row for path in files if path.exists() for row in read_rows(path)), _asked(manifest))


def _by_manifest(manifest: Manifest) -> Missing:
    drawn = manifest.counts.get("out", 0)
    lost, refused = manifest.counts.get("failed", 0), manifest.counts.get("refused", 0)
    return Missing(drawn, drawn, lost, refused, manifest.figures.get(CAUSES, {}))


def _asked(manifest: Manifest) -> int:
    """n samples of each problem; 0 where the manifest does not say it."""
    problems, n = (manifest.section.get(key) for key in ("limit", "n"))
    return problems * n if isinstance(problems, int) and isinstance(n, int) else 0


def _by_rows(rows: Iterable[Mapping[str, Any]], asked: int) -> Missing:
    """A failed sample that was drawn again stands there twice until the stage has ended: the later one counts."""
    failed: dict[str, tuple[bool, str]] = {}
    whole = 0
    for row in rows:
        completion = row["completion"]
        if completion["finish"] == "error":
            is_refused = completion.get("fault") == "input"
            failed[row["id"]] = (is_refused, cause_of(completion.get("error")))
        else:
            failed.pop(row["id"], None)
            whole += 1
    refused = sum(is_refused for is_refused, _ in failed.values())
    drawn = whole + len(failed)
    causes = Counter(cause for _, cause in failed.values())
    return Missing(max(asked, drawn), drawn, len(failed) - refused, refused, causes)
