"""The judge's part of the stage: its verdicts take the place of the undecided ones in the folder,
and what it replies is kept in `judge.jsonl`, so that nothing is asked twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

from reasondistill.errors import StageError
from reasondistill.records import JudgeReply, Problem, Verdict
from reasondistill.runs import layout
from reasondistill.runs.figures import VerdictsFigures
from reasondistill.runs.limits import allowed_losses
from reasondistill.runs.missing import causes_text
from reasondistill.runs.store import (
    Shard,
    StopSignal,
    ends_at_once,
    read_records,
    repair_tail,
    write_records,
)
from reasondistill.stages.verdicts.judge import Judge, Question, is_open
from reasondistill.stages.verdicts.judging import Replies, ask_about_undecided

REPLIES = layout.JUDGE_REPLIES


class StoredReplies(Replies):
    """Replies on disk, those of earlier sessions too; each is durable before the next comes."""

    def __init__(self, path: Path, stop: StopSignal | None) -> None:
        super().__init__()
        self._path, self._stop = path, stop
        self._shard: Shard | None = None
        self._stack = ExitStack()
        repair_tail(path)

    def new(self, questions: Iterable[Question]) -> list[Question]:
        new = super().new(questions)
        wanted = {question.key for question in new}
        if wanted and self._path.exists():
            for reply in read_records(self._path, JudgeReply):
                if reply.key in wanted:
                    super().put(reply)
        return [question for question in new if self.of(question) is None]

    def put(self, reply: JudgeReply) -> None:
        if self._shard is None:
            self._shard = self._stack.enter_context(Shard(self._path))
        self._shard.append([reply])
        super().put(reply)

    def should_stop(self) -> bool:
        return self._stop is not None and self._stop.requested

    def loading(self) -> AbstractContextManager[None]:
        return ends_at_once(self._stop)

    def __enter__(self) -> StoredReplies:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def judge_undecided(
    judge: Judge,
    problems: Path,
    folder: Path,
    stop: StopSignal | None = None,
    *,
    failures_allowed: float = 0.01,
) -> VerdictsFigures:
    """Put the judge's verdicts in the place of the undecided ones in `verdicts.jsonl`; return how
    many there are of each outcome.

    A request that failed leaves its answer undecided; the figure `judge_failed` counts them. Raises
    Interrupted, and StageError with the causes when the service lost a larger share of the answers
    than `failures_allowed`.
    """
    verdicts = folder / layout.VERDICTS
    undecided = [verdict for verdict in read_records(verdicts, Verdict) if is_open(verdict)]
    judged: dict[str, Verdict] = {}
    with StoredReplies(folder / REPLIES, stop) as replies:
        known = _problems_of(undecided, problems)
        # All of them together: the judge's engine never runs dry on the way.
        for verdict in ask_about_undecided(undecided, known, judge, replies, window=len(undecided)):
            if verdict.how == "judge":
                judged[verdict.trace_id] = verdict
    lost = replies.lost
    if lost.total() > allowed_losses(failures_allowed, replies.asked):
        raise StageError(
            f"{folder}: the judge {judge.how['model']} lost {lost.total()} of "
            f"{replies.asked} answers, failures_allowed = "
            f"{failures_allowed:g}: {causes_text(lost)}. Its other replies are kept; "
            "the same command asks for the rest."
        )
    if stop is not None:
        stop.check()
    if judged:
        records = read_records(verdicts, Verdict)
        write_records(verdicts, (judged.get(record.trace_id, record) for record in records))
    return _figures(verdicts, failed=len(undecided) - len(judged))


def _problems_of(verdicts: Iterable[Verdict], path: Path) -> dict[str, Problem]:
    """The problems of these verdicts, in the order of the file; it is not read for none."""
    wanted = {verdict.problem_id for verdict in verdicts}
    known: dict[str, Problem] = {}
    if wanted:
        for problem in read_records(path, Problem):
            if problem.id in wanted:
                known[problem.id] = problem
    return known


def _figures(path: Path, *, failed: int) -> VerdictsFigures:
    """How many answers the judge decided, by outcome; `failed` where any did."""
    verdicts = read_records(path, Verdict)
    judged = Counter(verdict.grade.outcome for verdict in verdicts if verdict.how == "judge")
    figures = VerdictsFigures(
        judged=judged.total(), judged_correct=judged["correct"], judged_wrong=judged["wrong"]
    )
    if failed:
        figures = figures.joined(VerdictsFigures(judge_failed=failed))
    return figures
