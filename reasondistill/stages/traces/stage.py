"""The folder of the traces stage: what of it stands, what is drawn anew, who draws it.

Writes traces.jsonl (in the end in problem order, then by sample) and metrics.jsonl. With a larger
`n`, more problems or another teacher only the new ones are drawn. Evals sample with the same
function.

What is in flight when the stage stops is kept (unfinished.jsonl), and gone on with in its middle:
valid samples, but not those that would have come without the stop. With `continue = false`, or
where the sampler cannot do it, the same samples come out however often the stage was killed.

With `accepted = m` a problem is drawn until it has m correct samples (rounds.py).

With `logprobs = K` the teacher's K most likely tokens at each token go into topk/ (capture.py);
traces.jsonl is the same with and without.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from reasondistill.config import Cluster, TraceSettings, VerdictSettings
from reasondistill.curation.words import normalise_question
from reasondistill.errors import Interrupted, ReasonDistillError, StageError
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.topk import mend_header
from reasondistill.records import Begun, Problem
from reasondistill.runs import layout
from reasondistill.runs.figures import TracesFigures
from reasondistill.runs.session import ALONE, Session
from reasondistill.runs.store import (
    Identity,
    Manifest,
    ends_at_once,
    open_stage,
    read_manifest,
    read_records,
    reopen_stage,
    require_complete,
    write_manifest,
)
from reasondistill.runs.unfinished import Kept, read_begun, remove_unfinished
from reasondistill.secrets import masked
from reasondistill.stages.traces import capture, on_disk, trimming
from reasondistill.stages.traces.drawing import capture_later, draw_rest
from reasondistill.stages.traces.finishing import finish, refuse_what_was_lost
from reasondistill.stages.traces.ledger import Ledger, rule_of
from reasondistill.stages.traces.unfinished import Unfinished, go_back
from reasondistill.stages.traces.work import (
    TraceJob,
    deal_problems,
    grows_in,
    has_grown,
    inputs_of,
    section_of,
)
from reasondistill.stages.traces.workers import gather_parts, open_for_workers, take_part

VERSION = 1
log = logging.getLogger(__name__)

# Of problems that a message names.
_MOST_NAMES = 5


def run_traces(
    traces: TraceSettings,
    problems_folder: Path,
    folder: Path,
    serving: Serving,
    session: Session = ALONE,
    *,
    limit: int | None = None,
    verdicts: VerdictSettings | None = None,
) -> Manifest:
    """Draw what is missing of n samples per problem; `limit` takes the first problems only. Samples
    beyond a lower `n` stay. With `accepted`, samples are graded between rounds as `verdicts` says,
    by rules alone.

    Of a stage that is shared only closing it gives a complete manifest. A sample that the service
    lost is written with `finish="error"`, counted, and drawn again by the next session that heals;
    a problem that the model cannot be asked is set aside (failures.py). Raises StageError (no
    problems, more failures than are allowed), ConfigError, DriftError, Interrupted.
    """
    started = time.monotonic()
    inputs = inputs_of(traces, problems_folder)
    problems = tuple(read_records(problems_folder / layout.PROBLEMS, Problem))[:limit]
    if not problems:
        raise StageError(f"{problems_folder}: holds no problems; there is nothing to sample.")
    prompt = load_prompt(traces.prompt)
    verdicts = verdicts or VerdictSettings()
    section = section_of(traces, prompt, len(problems), verdicts.policy)
    identity = Identity("traces", VERSION, section, inputs)
    with ends_at_once(session.stop):
        capture.check_tokenizers(traces)
    job = TraceJob(traces, problems, prompt, folder, serving, session)
    with ExitStack() as opened:
        rule = rule_of(traces)
        if rule is not None:
            ledger = Ledger(
                rule,
                problems,
                most_tokens=traces.resolve().max_tokens,
                open_grader=partial(_grading_pool, verdicts, serving.cluster),
            )
            job = replace(job, ledger=opened.enter_context(ledger))
        return _fill_folder(job, identity, problems_folder, started)


def _grading_pool(verdicts: VerdictSettings, cluster: Cluster) -> GradingPool:
    return GradingPool(
        workers=cluster.grade.workers,
        deadline_s=verdicts.deadline_s,
        memory_mib=cluster.grade.memory_mib,
        policy=verdicts.policy,
    )


def _fill_folder(
    job: TraceJob, identity: Identity, problems_folder: Path, started: float
) -> Manifest:
    """The part of this process in the folder's work, to its end."""
    traces, problems, prompt = job.traces, job.problems, job.prompt
    folder, session = job.folder, job.session
    share = session.share
    if share is not None and share.role != "open":
        return take_part(job, share, identity)
    mend_header(folder / layout.TOPK)
    state = open_stage(
        folder,
        identity,
        grows=grows_in(traces),
        has_grown=has_grown(traces, problems_folder, folder),
        keep_old=session.keep_old,
    )
    was_complete = state == "complete"
    if was_complete and not (session.heal and _is_tried_again(job, identity)):
        done = require_complete(folder)
        refuse_what_was_lost(job, done)
        return capture_later(job, done) if share is None else done
    if traces.n > 1 and traces.resolve().temperature == 0:
        log.warning(
            "%s: temperature = 0 gives the same text again and again: the %d samples of a problem "
            "count as one for a majority vote, a filter or a score; ask for n = 1",
            folder,
            traces.n,
        )
    worked = {normalise_question(shot.question) for shot in prompt.prompt.few_shot}
    shown: list[str] = []
    if worked:
        shown = [one.id for one in problems if normalise_question(one.question) in worked]
    if shown:
        log.warning(
            "prompt %s: %d of %d problems are also worked examples of it, with their answer: %s. "
            "They count like the others",
            prompt.name,
            len(shown),
            len(problems),
            ", ".join(shown[:_MOST_NAMES]),
        )
    capture.check_models(traces, folder)
    gather_parts(folder)
    trimming.take_in(folder)
    begun = _begun_before(job)
    finished = on_disk.finished_samples(folder)
    _tell_who_has_nothing(job)
    capture.forget_all_but(folder, finished)
    if job.ledger is not None:
        job.ledger.read(folder / layout.TRACES, finished)
    if share is not None:
        missing = sum(map(len, job.missing(finished).values()))
        return open_for_workers(job, share.of, missing=missing)
    if traces.goes_on:
        rest = {name: one for name, one in begun.items() if name not in finished}
        job = replace(job, unfinished=Unfinished(folder, rest))
    try:
        draw_rest(job, finished)
    except Interrupted:
        raise
    except ReasonDistillError as error:
        if not was_complete:
            _note_why(folder, error)
            raise
        # It was finished with what it may lack, and is so again.
        log.warning("%s: what was lost could not be drawn again: %s", folder, error)
    return finish(job, time.monotonic() - started)


def _tell_who_has_nothing(job: TraceJob) -> None:
    """Name each teacher that gets no problem, since others have drawn them or it has no luck."""
    hands = deal_problems(job)
    for model, hand in zip(job.traces.teachers, hands, strict=True):
        if not hand:
            log.warning(
                "%s: no problem is this teacher's: the others have drawn them, and a drawn problem "
                "stays with its teacher. It gets its share of more problems (problems.limit)",
                model.model,
            )


def as_many_as_stand(traces: TraceSettings, folder: Path) -> TraceSettings:
    """These settings with the larger n of a folder that was begun with more samples of each
    problem, for one who reads the first n of them.
    """
    old = read_manifest(folder)
    if old is None:
        return traces
    n = old.section.get("n") or 0
    if n <= traces.n:
        return traces
    return traces.model_copy(update={"n": n})


def as_many_problems_as_stand(limit: int | None, folder: Path) -> int | None:
    """The larger limit of a folder that was begun with more problems, for one who reads the first
    `limit` of them.
    """
    old = read_manifest(folder)
    if limit is None or old is None:
        return limit
    return max(limit, old.section.get("limit", 0))


def _begun_before(job: TraceJob) -> dict[str, Begun]:
    """What earlier sessions have begun and not finished. Without `continue` it is forgotten: these
    samples are drawn from their beginning, as those that they would have been.
    """
    begun = read_begun([job.folder])
    if begun:
        kept = Kept.of(begun.values())
        if not job.traces.goes_on:
            log.info("%s: continue = false: %s, begin anew", job.folder, kept.words())
            remove_unfinished(job.folder)
            return {}
        log.info("%s: going on with %s", job.folder, kept.words())
    go_back(job.folder, begun)
    return begun


def _note_why(folder: Path, error: Exception) -> None:
    """Keep why the stage stopped in its unfinished manifest, for `show`."""
    manifest = read_manifest(folder)
    if manifest is not None:
        stopped = TracesFigures(stopped=masked(str(error)))
        write_manifest(folder, replace(manifest, figures=manifest.figures | stopped.to_dict()))


def _is_tried_again(job: TraceJob, identity: Identity) -> bool:
    """Reopen a finished folder that is worth another try; whether it is."""
    cluster = job.serving.cluster
    return reopen_stage(job.folder, identity, lambda done: is_worth_another_try(done, cluster))


def is_worth_another_try(done: Manifest, cluster: Cluster) -> bool:
    """Whether samples of a finished folder were lost, or prompts were too long for a context that
    is another one now.
    """
    if done.counts.get("failed"):
        return True
    engine = TracesFigures.of(done).engine
    if engine is None or engine.max_model_len == cluster.vllm.max_model_len:
        return False
    return bool(done.counts.get("refused"))
