"""The samples that are missing from a traces folder, and why: the service lost them, refused their
input, or a data set of published traces does not hold them.

lacking = read_missing(run / "2-traces")
lacking.words()          # "20 of 120 samples; 100 lost (HTTP 402: quota exhausted)"

The next run draws lost samples again, refused ones it does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reasondistill.records import Completion
from reasondistill.runs import layout, work_sharing
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.samples import completion_of, read_samples
from reasondistill.runs.store import Manifest, read_manifest
from reasondistill.runs.unfinished import Kept, read_begun

LOST, REFUSED = "lost", "refused"
# The part of the section of a folder of traces that says until when problems are drawn; without it
# each gets n samples.
UNTIL = "until"
_MOST_CAUSES, _LONGEST_CAUSE = 5, 200
# Parts of a message that differ between failures of the same kind: tokens, long numbers, request
# ids. A status code and a port are kept.
_VARIES = re.compile(
    r"(?<!:)\b(?:\d[\d,]*(?= tokens)|\d{4,}|(?=\w*\d)[0-9a-f]{8,}(?:-[0-9a-f]+)*)\b"
)


@dataclass(frozen=True)
class Missing:
    """How many samples were asked for and `drawn`, how many of these failed, and the `causes` of
    that with their counts. `begun` are kept and not finished, `absent` stand in no data set.
    """

    asked: int = 0
    drawn: int = 0
    lost: int = 0
    refused: int = 0
    causes: Mapping[str, int] = field(default_factory=dict[str, int])
    begun: Kept = Kept()
    absent: int = 0

    @property
    def failed(self) -> int:
        return self.lost + self.refused

    @property
    def answered(self) -> int:
        return self.drawn - self.failed

    @property
    def waiting(self) -> int:
        """Samples that have not been drawn yet."""
        return self.asked - self.drawn - self.absent

    @property
    def is_short(self) -> bool:
        """Fewer answers than were asked for."""
        return self.answered < self.asked

    def words(self) -> str:
        """`20 of 120 samples; 98 lost, 1 refused (98 × HTTP 402; 1 × prompt too long), 1 not drawn
        yet (1 unfinished sample, 8,412 tokens, kept)`.
        """
        parts = [
            f"{count:,} {name}"
            for name, count in ((LOST, self.lost), (REFUSED, self.refused))
            if count
        ]
        failed = f"; {', '.join(parts)}{in_brackets(self.causes)}" if parts else ""
        if self.absent:
            failed += f"; {self.absent:,} are not in the data set"
        later = f", {self.waiting:,} not drawn yet" if self.waiting else ""
        if self.begun.samples:
            later += f" ({self.begun.words()}, kept)"
        return f"{self.answered:,} of {self.asked:,} samples{failed}{later}"

    def remedy(self, place: str) -> str:
        """What to do about the missing samples, as sentences; `place` is the folder's path in the
        run.
        """
        sentences = (
            ["The same command draws the lost ones again."]
            if self.lost and not self.waiting
            else []
        )
        sentences += ["The same command draws the rest."] if self.waiting else []
        sentences += (
            [f"Refused samples are set aside: see {place}/{layout.SET_ASIDE}."]
            if self.refused and not self.waiting
            else []
        )
        sentences += (
            [f"Which problems have fewer: see {place}/{layout.FEWER}."]
            if self.absent and not self.waiting
            else []
        )
        return " ".join(sentences)


def in_brackets(causes: Mapping[str, int]) -> str:
    """` (HTTP 402)`, or with counts where there are several; nothing without a cause."""
    if not causes:
        return ""
    return f" ({next(iter(causes))})" if len(causes) == 1 else f" ({causes_text(causes)})"


def causes_text(causes: Mapping[str, int]) -> str:
    """`100 × HTTP 402: Insufficient Balance; 2 × timed out`, the most frequent first."""
    ordered = sorted(causes.items(), key=lambda pair: -pair[1])
    named = [f"{count:,} × {cause}" for cause, count in ordered[:_MOST_CAUSES]]
    rest = len(ordered) - len(named)
    return "; ".join(named) + (f"; and {rest} other causes" if rest else "")


def cause_of(completion: Completion) -> str:
    """The error of a failed sample without request ids and other varying parts, so that equal
    causes can be counted.
    """
    text = " ".join((completion.error or "no reason given").split())
    return _VARIES.sub("…", text)[:_LONGEST_CAUSE]


def failed_in(manifest: Manifest) -> int:
    """How many samples of a finished traces folder are lost or refused."""
    return manifest.counts.get("failed", 0) + manifest.counts.get("refused", 0)


def is_allowed(manifest: Manifest) -> bool:
    """Whether what a finished traces folder lost was allowed when it was finished.

    Earlier versions finished with any number of lost samples and recorded no causes.
    """
    return TracesFigures.of(manifest).causes is not None


def read_missing(folder: Path) -> Missing:
    """The missing samples of a traces folder: from its manifest, or from its traces while it is
    unfinished or its manifest has no causes.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return Missing()
    if manifest.status == "complete" and (is_allowed(manifest) or not failed_in(manifest)):
        return _by_manifest(manifest)
    folders = [folder, *work_sharing.worker_folders(folder)]
    files = [part / layout.TRACES for part in folders]
    lacking = _by_rows([path for path in files if path.exists()], _asked(manifest))
    return replace(lacking, begun=Kept.of(read_begun(folders).values()))


def _by_manifest(manifest: Manifest) -> Missing:
    drawn = manifest.counts.get("out", 0)
    lost, refused = manifest.counts.get("failed", 0), manifest.counts.get("refused", 0)
    causes = TracesFigures.of(manifest).causes or {}
    absent = manifest.counts.get("absent", 0)
    return Missing(drawn + absent, drawn, lost, refused, causes, absent=absent)


def _asked(manifest: Manifest) -> int:
    """n samples of each problem; 0 where the manifest does not have both, or nobody knows how many
    it will be.
    """
    if UNTIL in manifest.section:
        return 0
    problems, n = (manifest.section.get(key) for key in ("limit", "n"))
    return problems * n if isinstance(problems, int) and isinstance(n, int) else 0


def _by_rows(files: Iterable[Path], expected: int) -> Missing:
    """A failed sample that was drawn again is in the file twice until the stage ends: the later one
    counts.
    """
    failed: dict[str, Completion] = {}
    whole = 0
    for path in files:
        for row in read_samples(path):
            if row["completion"]["finish"] == "error":
                failed[row["id"]] = completion_of(row, path)
            else:
                failed.pop(row["id"], None)
                whole += 1
    absent = sum(completion.is_absent for completion in failed.values())
    refused = sum(completion.is_refused for completion in failed.values())
    lost = len(failed) - refused - absent
    drawn = whole + lost + refused
    told = (completion for completion in failed.values() if not completion.is_absent)
    causes = Counter(map(cause_of, told))
    return Missing(max(expected, drawn + absent), drawn, lost, refused, causes, absent=absent)
