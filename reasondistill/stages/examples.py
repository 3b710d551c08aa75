"""Stage 4: Trace + Verdict → Example: filter, select per problem, split by problem; what is dropped
is kept with its reason, and golds that samples speak against are listed.

    inputs = ExampleInputs(run / "1-problems", run / "2-traces", run / "3-verdicts")
    run_examples(pipeline.examples, prompt, inputs, run / "4-examples", about={})

Kept + dropped = traces. Traces come in problem order, so only one problem's traces are in memory at
a time.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice, repeat
from pathlib import Path
from typing import Any

from reasondistill.config import ExampleSettings
from reasondistill.curation import export
from reasondistill.curation.card import (
    CardFacts,
    DatasetFile,
    FunnelRow,
    dataset_card,
    exports_card,
)
from reasondistill.curation.decisions import Decision, Tally
from reasondistill.curation.difficulty import pass_rate
from reasondistill.curation.filters import SELECT, Candidate, ProblemChoice, active_filters
from reasondistill.curation.filters.lengths import tokenizers_of, with_lengths
from reasondistill.curation.filters.registry import DropReason
from reasondistill.curation.filters.tools import (
    NO_TOOLS,
    OpenPool,
    Tools,
    new_pool,
    opened_tools,
)
from reasondistill.curation.mixing import Mixed, Mixer
from reasondistill.curation.suspects import suspect_gold
from reasondistill.errors import StageError
from reasondistill.hashing import stable_share
from reasondistill.models.counting import token_counter
from reasondistill.models.prompts import NamedPrompt, render_assistant
from reasondistill.models.scores.folder import TOP_K, ScoreFolder
from reasondistill.models.weights import tokenizer_identity
from reasondistill.records import (
    Dropped,
    Example,
    Graded,
    Message,
    Problem,
    SetAside,
    Split,
    SuspectGold,
    Trace,
    TraceScore,
    Verdict,
)
from reasondistill.runs import layout, store
from reasondistill.runs.figures import ProblemsFigures, SourceFigures, TracesFigures
from reasondistill.runs.graded import read_graded
from reasondistill.runs.growth import also_rounds, also_writers, stood_in
from reasondistill.runs.samples import COUNTED

VERSION = 1

EXAMPLES, DROPPED, UNVERIFIED = layout.EXAMPLES, layout.DROPPED, layout.UNVERIFIED
SUSPECTS = layout.SUSPECTS
DATASET, EXPORTS = layout.DATASET, layout.EXPORTS
SPLITS: tuple[Split, ...] = ("train", "validation")
# Problems whose examples are made durable together: few enough for 16 traces of 32k tokens each to
# fit in 100 MB.
_BATCH = 32
BEYOND = "beyond traces.n"
# The input that names the problems of which no more examples are made.
_LEFT_OUT = "left_out"
_TELL_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExampleInputs:
    """The folders of the stages whose records become examples, and the grader that compares answers
    where any are compared. Of each problem the first `samples` count: a larger n may have drawn
    more. `scores` is what a model says of the traces, for the rules of `select` that go by it.
    """

    problems: Path
    traces: Path
    verdicts: Path
    open_pool: OpenPool = new_pool
    samples: int | None = None
    scores: ScoreFolder | None = None

    def has_beyond(self, traces: store.Manifest) -> bool:
        """Whether there are traces that lie beyond the first `samples`."""
        if self.samples is None:
            return False
        drawn = traces.section.get("n")
        is_lower = isinstance(drawn, int) and drawn > self.samples
        return is_lower or TracesFigures.of(traces).beyond > 0

    def counts(self, trace: Trace) -> bool:
        """Whether a trace is one of the first `samples`."""
        return self.samples is None or trace.sample < self.samples

    @property
    def left_out(self) -> Path:
        """Of which problems that have traces no more examples are made."""
        return self.problems / layout.LEFT_OUT

    def reasons_left_out(self) -> dict[str, str]:
        """Why no example is made of a problem, by its id."""
        if not self.left_out.exists():
            return {}
        return {entry.id: entry.reason for entry in store.read_records(self.left_out, SetAside)}

    def manifests(self) -> dict[str, store.Manifest]:
        """What each stage has finished. Raises StageError for one that is not finished."""
        return {
            "problems": store.require_complete(self.problems),
            "traces": store.require_complete(self.traces),
            "verdicts": store.require_complete(self.verdicts),
        }


def run_examples(
    examples: ExampleSettings,
    prompt: NamedPrompt,
    inputs: ExampleInputs,
    folder: Path,
    *,
    about: Mapping[str, str],
    unverified: bool = False,
    keep_old: bool = False,
) -> store.Manifest:
    """Write examples.jsonl, dropped.jsonl, suspects.jsonl, dataset/ (Parquet and card) and
    exports/; `about` goes into the card.

    With `unverified` also unverified.jsonl: what the same settings choose when nobody grades. It
    can be asked for later, as exports can. Raises StageError when an input is unfinished, inputs do
    not belong together, or no trace is kept.
    """
    started = time.monotonic()
    export.require_parquet()
    manifests = inputs.manifests()
    identity = _identity(examples, prompt, manifests, inputs)
    outputs: list[str] = []
    if (folder / UNVERIFIED).exists():  # what an `unverified` student has learnt from
        outputs.append(store.content_of(folder, [UNVERIFIED]))
    opened = store.open_stage(
        folder,
        identity,
        has_grown=_has_grown(inputs),
        outputs=outputs,
        derived=True,
        keep_old=keep_old,
    )
    if opened == "complete":
        if unverified:
            done = store.require_complete(folder)
            is_other = done.fingerprint != identity.fingerprint
            if is_other and not (folder / UNVERIFIED).exists():
                raise StageError(
                    f"{folder}: made from other settings, {UNVERIFIED} cannot be added to it. "
                    "Remove that folder to make both."
                )
            _write_unverified(folder, examples, prompt, inputs)
        _write_exports(folder, examples.export)
        return store.seal(folder, (UNVERIFIED, EXPORTS))
    remove_outputs(folder)
    also = also_writers(manifests["traces"])
    tally = Tally(by_writer={} if also else None, rounds=also_rounds(also))
    decisions = _decisions(inputs, examples)
    mixer = _mixer_of(examples)
    if mixer is not None:
        decisions = _watched(decisions, mixer, examples)
    write_decisions(folder, examples, prompt, tally, decisions)
    if tally.kept == 0:
        raise StageError(nothing_kept(folder, tally))
    if mixer is not None:
        _write_mixed(folder, mixer.mixed(), tally, examples)
    _require_own_samples(folder, tally)
    fill_empty_split(folder, tally, examples.validation)
    if unverified:
        _write_unverified(folder, examples, prompt, inputs)
    if inputs.scores is not None:
        model = inputs.scores.identity.section["model"]
        about = {**about, "selected": f"by {examples.select}, k = {examples.k}, scored by {model}"}
    write_dataset(folder, tally, manifests, identity, about)
    _write_exports(folder, examples.export)
    logger.info(
        "%s: %d examples of %d problems, %d traces dropped",
        folder,
        tally.kept,
        tally.kept_problems,
        tally.total - tally.kept,
    )
    counts = {"in": tally.total, "out": tally.kept}
    for split in SPLITS:
        counts[split] = tally.splits[split]
    seconds = time.monotonic() - started
    return store.finish_stage(
        folder,
        counts=counts,
        dropped=tally.dropped,
        figures=tally.figures().to_dict(),
        seconds=seconds,
        files=[EXAMPLES],
    )


def foresee_examples(
    examples: ExampleSettings,
    prompt: NamedPrompt,
    inputs: ExampleInputs,
    folder: Path,
    *,
    keep_old: bool = False,
) -> store.Foreseen:
    """What `run_examples` would find in the folder; nothing is changed. Raises as it does."""
    identity = _identity(examples, prompt, inputs.manifests(), inputs)
    return store.foresee(
        folder, identity, has_grown=_has_grown(inputs), derived=True, keep_old=keep_old
    )


def _identity(
    examples: ExampleSettings,
    prompt: NamedPrompt,
    manifests: Mapping[str, store.Manifest],
    inputs: ExampleInputs,
) -> store.Identity:
    """Exports are views of the examples and no part of what they are: another one must not make
    anybody train again. Which problems are left out counts.
    """
    section = examples.model_dump(mode="json", exclude={"export", "scores"})
    section |= {"prompt": prompt.tag}
    outputs = {name: manifest.output for name, manifest in manifests.items()}
    if examples.scored_by is not None:
        # What the scores are is an input; here is what is made of them.
        made_of: dict[str, Any] = {"by": examples.scored_by}
        if examples.scored_by == "das":
            made_of["margin"] = examples.scores.margin
        section["scores"] = made_of
        outputs |= _scores_of(inputs).inputs
    if store.count_lines(inputs.left_out):
        outputs[_LEFT_OUT] = store.content_of(inputs.problems, [layout.LEFT_OUT])
    if inputs.has_beyond(manifests["traces"]):
        outputs[COUNTED] = str(inputs.samples)
    for tokenizer in tokenizers_of(examples):
        found = tokenizer_identity(tokenizer.name, tokenizer.revision)
        asked = tokenizer.name
        if tokenizer.revision is not None:
            asked += f"@{tokenizer.revision}"
        outputs[f"tokenizer {asked}"] = found
    return store.Identity("examples", VERSION, section, outputs)


def _scores_of(inputs: ExampleInputs) -> ScoreFolder:
    if inputs.scores is None:
        raise StageError("select goes by scores, and nobody says where they are.")
    return inputs.scores


def _has_grown(inputs: ExampleInputs) -> store.HasGrown:
    """Whether a changed input is what it was and more: the examples are made anew all the same, and
    a student of those before learns that they grew.
    """
    stood: dict[str, frozenset[str]] = {}
    for name in ("problems", "traces", "verdicts"):
        stood[name] = stood_in(getattr(inputs, name))

    def is_growth(name: str, old: Any, new: Any) -> bool:
        key = name.removeprefix("inputs.")
        if key == TOP_K:  # more of it, of more traces
            return bool(stood["traces"])
        return key in (_LEFT_OUT, COUNTED) or old in stood.get(key, ())

    return is_growth


def remove_outputs(folder: Path) -> None:
    """Remove what an earlier call wrote into the folder; its manifest stays."""
    for name in (EXAMPLES, DROPPED, SUSPECTS, UNVERIFIED):
        store.remove_with_list(folder / name)
    for name in (DATASET, EXPORTS):
        shutil.rmtree(folder / name, ignore_errors=True)


# ---- one example ---------------------------------------------------------------------------------


def make_example(problem: Problem, trace: Trace, prompt: NamedPrompt, split: Split) -> Example:
    """The prompt's turns, then the trace as the assistant's turn."""
    answer = Message(role="assistant", content=render_assistant(trace.completion))
    turns = (*prompt.prompt.render(problem.question), answer)
    return Example(
        id=trace.id,
        problem_id=problem.id,
        trace_id=trace.id,
        messages=turns,
        tokens=trace.completion.tokens,
        split=split,
    )


# ---- deciding ------------------------------------------------------------------------------------


def decide_all(
    graded: Iterable[Graded],
    problems: Iterator[Problem],
    examples: ExampleSettings,
    *,
    verified: bool = True,
    tools: Tools = NO_TOOLS,
) -> Iterator[Decision]:
    """One Decision per problem that has traces. Both inputs come in problem order. Raises
    StageError when they do not.

    Golds are put under suspicion where verdicts count (`verified`).
    """
    filters = active_filters(examples, verified=verified)
    for problem, pairs in by_problem(graded, problems):
        decision = decide(problem, pairs, examples, filters, tools)
        if verified:
            decision = with_suspicion(decision, examples, tools)
        yield decision


def by_problem(
    graded: Iterable[Graded], problems: Iterator[Problem]
) -> Iterator[tuple[Problem, tuple[Graded, ...]]]:
    """Each problem that has traces, with them. Raises StageError for traces out of order."""
    for problem_id, group in groupby(graded, key=lambda pair: pair.trace.problem_id):
        problem = next((problem for problem in problems if problem.id == problem_id), None)
        if problem is None:
            raise StageError(
                f"traces of {problem_id}: no such problem, or traces out of order. Run the "
                "traces stage again."
            )
        yield problem, tuple(group)


def decide(
    problem: Problem,
    pairs: Sequence[Graded],
    examples: ExampleSettings,
    filters: Sequence[DropReason] | None = None,
    tools: Tools = NO_TOOLS,
) -> Decision:
    """Which of one problem's traces are kept. Each of the others gets its first reason.

    `filters` are those that `examples` asks for: looked up once where there are many problems.
    """
    choice = ProblemChoice(examples, filters)
    reasons: dict[str, str] = {}
    for pair, candidate in zip(pairs, _candidates_of(problem, pairs, tools), strict=True):
        reason = choice.see(candidate)
        if reason is not None:
            reasons[pair.trace.id] = reason
    reasons |= choice.selection.reasons
    return Decision(problem, tuple(pairs), reasons)


def _candidates_of(problem: Problem, pairs: Sequence[Graded], tools: Tools) -> Iterator[Candidate]:
    """All traces of one problem."""
    rate = pass_rate(pair.verdict.grade.outcome for pair in pairs)
    for pair in pairs:
        text = render_assistant(pair.trace.completion)
        yield Candidate(pair.trace, pair.verdict, text, problem, tools, pass_rate=rate)


def with_suspicion(decision: Decision, examples: ExampleSettings, tools: Tools) -> Decision:
    """The decision with what the traces say against the gold; nothing is kept of such a problem
    where `suspect_golds` are left out.
    """
    suspect = suspect_gold(decision.problem, decision.pairs, examples, tools.compare)
    if suspect is None:
        return decision
    reasons = dict(decision.reasons)
    if examples.suspect_golds == "leave_out":
        for pair in decision.pairs:
            if reasons.get(pair.trace.id, SELECT).startswith(SELECT):
                reasons[pair.trace.id] = "gold under suspicion"
    return replace(decision, reasons=reasons, suspect=suspect)


def _candidates(
    graded: Iterable[Graded], problems: Iterator[Problem], tools: Tools
) -> Iterator[Candidate]:
    for problem, pairs in by_problem(graded, problems):
        yield from _candidates_of(problem, pairs, tools)


def split_of(problem_id: str, examples: ExampleSettings) -> Split:
    """The split of a problem: other problems have no say in it."""
    if _place(problem_id, examples.seed) < examples.validation:
        return "validation"
    return "train"


def _place(problem_id: str, seed: int) -> float:
    return stable_share(f"{seed}:split:{problem_id}", size=6)


@dataclass(frozen=True)
class ChosenExamples:
    """What became of all traces: each is kept or dropped. `suspects` are golds that they speak
    against.
    """

    kept: tuple[Example, ...]
    dropped: tuple[Dropped, ...]
    suspects: tuple[SuspectGold, ...] = ()


def make_examples(
    problems: Sequence[Problem],
    traces: Iterable[Trace],
    verdicts: Iterable[Verdict],
    prompt: NamedPrompt,
    examples: ExampleSettings,
    *,
    scores: Mapping[str, TraceScore] | None = None,
) -> ChosenExamples:
    """Filter, select per problem and split by problem; `prompt` is the student's, `scores` what a
    model says of the traces, by their ids.

        chosen = make_examples(problems, traces, verdicts, load_prompt("think"),
                               ExampleSettings(select="shortest"))

    Traces and verdicts may come in any order; the examples come in the order of the problems, then
    by sample, as the stage writes them. Raises StageError for a trace without a verdict or of an
    unknown problem.
    """
    by_trace = {verdict.trace_id: verdict for verdict in verdicts}
    places = {problem.id: place for place, problem in enumerate(problems)}
    graded: list[Graded] = []
    for trace in traces:
        if trace.id not in by_trace:
            raise StageError(f"trace {trace.id}: it has no verdict; judge it first.")
        if trace.problem_id not in places:
            raise StageError(f"trace {trace.id}: no problem is called {trace.problem_id}.")
        graded.append(Graded(trace, by_trace[trace.id]))
    graded.sort(key=lambda pair: (places[pair.trace.problem_id], pair.trace.sample))
    tally = Tally()
    chosen: list[Example] = []
    dropped: list[Dropped] = []
    suspects: list[SuspectGold] = []
    with opened_tools(new_pool, token_counter) as tools:
        if scores is not None:
            tools = replace(tools, score=partial(_score_in, scores))
        tools = with_lengths(tools, _candidates(graded, iter(problems), tools), examples)
        decisions = decide_all(graded, iter(problems), examples, tools=tools)
        mixer = _mixer_of(examples)
        if mixer is not None:
            decisions = _watched(decisions, mixer, examples)
        for decision in decisions:
            _count(tally, decision, examples)
            chosen += _examples(decision, prompt, examples)
            dropped += _dropped(decision)
            suspects += _suspects(decision)
    if mixer is not None:
        mixed = mixer.mixed()
        by_id = {example.id: example.problem_id for example in chosen}
        for name, reason in mixed.reasons.items():
            dropped.append(Dropped(trace_id=name, problem_id=by_id[name], reason=reason))
        chosen = list(mixed.of(chosen))
        tally.see_mixed(chosen, mixed.lost, lambda name: _place(name, examples.seed))
    move = _move_for_empty_split(tally, examples.validation)
    if move is not None:
        chosen = [move.of(example) for example in chosen]
    return ChosenExamples(tuple(chosen), tuple(dropped), tuple(suspects))


def _score_in(scores: Mapping[str, TraceScore], trace_id: str) -> TraceScore:
    if trace_id not in scores:
        raise StageError(f"trace {trace_id}: it has no score; score it first.")
    return scores[trace_id]


# ---- reading and writing -------------------------------------------------------------------------


def _decisions(
    inputs: ExampleInputs, examples: ExampleSettings, *, verified: bool = True
) -> Iterator[Decision]:
    left_out = inputs.reasons_left_out()
    with opened_tools(inputs.open_pool, token_counter) as tools:
        if examples.scored_by is not None:
            tools = replace(tools, score=_scores_of(inputs).reader())
        candidates = (
            candidate
            for candidate in _candidates(*_read(inputs), tools)
            if candidate.trace.problem_id not in left_out and inputs.counts(candidate.trace)
        )
        tools = with_lengths(tools, candidates, examples, verified=verified)
        graded, problems = _read(inputs)
        beyond = Beyond(inputs)
        decisions = decide_all(
            beyond.kept_back(graded), problems, examples, verified=verified, tools=tools
        )
        for decision in decisions:
            yield _without_left_out(beyond.joined(decision), left_out)
        beyond.require_none_left()


class Beyond:
    """The traces beyond the first so many of each problem: nothing is decided by them."""

    def __init__(self, inputs: ExampleInputs) -> None:
        self._inputs = inputs
        self._waiting: dict[str, list[Graded]] = {}

    def kept_back(self, graded: Iterable[Graded]) -> Iterator[Graded]:
        """The others. Those of a problem stand before those beyond it."""
        for pair in graded:
            if self._inputs.counts(pair.trace):
                yield pair
            else:
                self._waiting.setdefault(pair.trace.problem_id, []).append(pair)

    def joined(self, decision: Decision) -> Decision:
        """The decision about all traces of a problem."""
        beyond = self._waiting.pop(decision.problem.id, ())
        reasons = dict.fromkeys((pair.trace.id for pair in beyond), BEYOND)
        return replace(
            decision,
            pairs=(*decision.pairs, *beyond),
            reasons={**decision.reasons, **reasons},
            beyond=len(beyond),
        )

    def require_none_left(self) -> None:
        """Raise StageError for traces of a problem that has none of the first ones."""
        for problem_id in self._waiting:
            raise StageError(
                f"traces of {problem_id}: only some beyond traces.n = {self._inputs.samples}. Run "
                "the traces stage again."
            )


def _without_left_out(decision: Decision, left_out: Mapping[str, str]) -> Decision:
    """Nothing is kept of a problem that a benchmark has, or that lies beyond the limit."""
    reason = left_out.get(decision.problem.id)
    if reason is None:
        return decision
    reasons = dict.fromkeys((pair.trace.id for pair in decision.pairs), reason)
    return replace(decision, reasons=reasons)


def _read(inputs: ExampleInputs) -> tuple[Iterator[Graded], Iterator[Problem]]:
    graded = read_graded(inputs.traces / layout.TRACES, inputs.verdicts / layout.VERDICTS)
    problems = store.read_records(inputs.problems / layout.PROBLEMS, Problem)
    return graded, problems


def _count(tally: Tally, decision: Decision, examples: ExampleSettings) -> None:
    problem_id = decision.problem.id
    place = _place(problem_id, examples.seed)
    tally.see(decision, place, split_of(problem_id, examples))


def write_decisions(
    folder: Path,
    examples: ExampleSettings,
    prompt: NamedPrompt,
    tally: Tally,
    decisions: Iterator[Decision],
) -> None:
    """Append what is kept, dropped or under suspicion to its file, a batch of problems at a time,
    and count.
    """
    last_report = time.monotonic()
    with (
        store.Shard(folder / EXAMPLES, goes_on=False) as shard,
        store.Shard(folder / DROPPED, goes_on=False) as dropped,
        store.Shard(folder / SUSPECTS, goes_on=False) as suspects,
    ):
        batch = list(islice(decisions, _BATCH))
        while batch:
            for decision in batch:
                _count(tally, decision, examples)
            groups = (_examples(decision, prompt, examples) for decision in batch)
            shard.append(chain.from_iterable(groups))
            dropped.append(chain.from_iterable(map(_dropped, batch)))
            suspects.append(chain.from_iterable(map(_suspects, batch)))
            if time.monotonic() - last_report > _TELL_SECONDS:
                last_report = time.monotonic()
                logger.info(
                    "%d traces of %d problems · %d kept", tally.total, tally.problems, tally.kept
                )
            batch = list(islice(decisions, _BATCH))


def _examples(
    decision: Decision, prompt: NamedPrompt, examples: ExampleSettings
) -> Iterator[Example]:
    split = split_of(decision.problem.id, examples)
    return (make_example(decision.problem, pair.trace, prompt, split) for pair in decision.kept)


def _dropped(decision: Decision) -> Iterator[Dropped]:
    for pair in decision.pairs:
        trace_id = pair.trace.id
        reason = decision.reasons.get(trace_id)
        if reason is not None:
            yield Dropped(trace_id=trace_id, problem_id=decision.problem.id, reason=reason)


def _suspects(decision: Decision) -> Iterator[SuspectGold]:
    if decision.suspect is not None:
        yield decision.suspect


def _mixer_of(examples: ExampleSettings) -> Mixer | None:
    """What weighs groups of examples, where that is asked for."""
    if examples.mixture is None:
        return None
    return Mixer(examples.mixture, seed=examples.seed)


def _watched(
    decisions: Iterable[Decision], mixer: Mixer, examples: ExampleSettings
) -> Iterator[Decision]:
    """The same; what is kept to train on is shown to the mixer."""
    for decision in decisions:
        if split_of(decision.problem.id, examples) == "train":
            for pair in decision.kept:
                mixer.see(decision.problem, pair.trace, decision.share_correct)
        yield decision


def _write_mixed(folder: Path, mixed: Mixed, tally: Tally, examples: ExampleSettings) -> None:
    """Take out of examples.jsonl what is beyond the share of its group, and note the copies."""

    def dropped() -> Iterator[Dropped]:
        for example in store.read_records(folder / EXAMPLES, Example):
            name = example.trace_id or example.id
            if name in mixed.reasons:
                reason = mixed.reasons[name]
                yield Dropped(trace_id=name, problem_id=example.problem_id, reason=reason)

    with store.Shard(folder / DROPPED, goes_on=False) as shard:
        shard.append(dropped())
    left = mixed.of(store.read_records(folder / EXAMPLES, Example))
    store.write_records(folder / EXAMPLES, left)
    tally.mixture = mixed.groups
    tally.see_mixed(
        store.read_records(folder / EXAMPLES, Example),
        mixed.lost,
        lambda problem_id: _place(problem_id, examples.seed),
    )


@dataclass(frozen=True)
class _Move:
    """A problem that changes its split."""

    problem_id: str
    split: Split

    def of(self, example: Example) -> Example:
        """The example, in the other split where it is of this problem."""
        if example.problem_id != self.problem_id:
            return example
        # Copies are for training.
        return example.model_copy(update={"split": self.split, "copies": 1})


def _move_for_empty_split(tally: Tally, validation: float) -> _Move | None:
    """An empty split is given the problem that stands nearest to it. Only small sets need it."""
    if tally.kept_problems < 2 or validation == 0:
        return None
    if tally.splits["validation"] == 0:
        return _Move(tally.first_problem, "validation")
    if tally.splits["train"] == 0:
        return _Move(tally.last_problem, "train")
    return None


def fill_empty_split(folder: Path, tally: Tally, validation: float) -> None:
    """Move one problem into a split that has none."""
    move = _move_for_empty_split(tally, validation)
    if move is None:
        return
    mended: list[Split] = []

    def moved() -> Iterator[Example]:
        for example in store.read_records(folder / EXAMPLES, Example):
            after = move.of(example)
            if after is not example:
                mended.append(example.split)
            yield after

    store.write_records(folder / EXAMPLES, moved())
    for before in mended:
        tally.splits[before] -= 1
        tally.splits[move.split] += 1


def _write_unverified(
    folder: Path, examples: ExampleSettings, prompt: NamedPrompt, inputs: ExampleInputs
) -> None:
    """Write unverified.jsonl unless it is there: what the same filters, selection and split choose
    when no verdict is looked at.

    Wrong, missing and undecided answers are in it, and problems without a right one. What was cut
    off (`finish`) is not: nobody needs a grader to know that. A problem stands in the split in
    which examples.jsonl has it.
    """
    if (folder / UNVERIFIED).exists():
        return
    moved: dict[str, Split] = {}
    for example in store.read_records(folder / EXAMPLES, Example):
        if example.split != split_of(example.problem_id, examples):
            moved[example.problem_id] = example.split

    mixer = _mixer_of(examples)
    if mixer is not None:
        # Once more, and not the file again: after a kill a file that is there is whole.
        for _ in _watched(_decisions(inputs, examples, verified=False), mixer, examples):
            pass

    def chosen() -> Iterator[Example]:
        for decision in _decisions(inputs, examples, verified=False):
            problem = decision.problem
            split = moved.get(problem.id) or split_of(problem.id, examples)
            for pair in decision.kept:
                yield make_example(problem, pair.trace, prompt, split)

    rows = chosen()
    if mixer is not None:
        rows = mixer.mixed().of(rows)
    count = store.write_records(folder / UNVERIFIED, rows)
    logger.info("%s: %d examples that nobody verified", folder, count)


def _of_split(folder: Path, split: Split) -> Iterator[Example]:
    """The examples of a split, each as often as it is trained on."""
    for example in store.read_records(folder / EXAMPLES, Example):
        if example.split == split:
            yield from repeat(example, example.copies)


def write_dataset(
    folder: Path,
    tally: Tally,
    manifests: Mapping[str, store.Manifest],
    identity: store.Identity,
    about: Mapping[str, str],
) -> None:
    """Write dataset/: a Parquet file for each split that has examples, and the card."""
    files: list[DatasetFile] = []
    for split in SPLITS:
        path = folder / DATASET / f"{split}.parquet"
        with store.replacing(path) as file:
            rows = export.write_parquet(file, _of_split(folder, split))
        if rows == 0:
            path.unlink()
        else:
            files.append(DatasetFile(split, path.name, rows, sha256_of(path)))
    fingerprints = {name: manifest.output for name, manifest in manifests.items()}
    fingerprints["examples"] = identity.fingerprint
    sources: Sequence[SourceFigures] = ()
    if "problems" in manifests:
        sources = ProblemsFigures.of(manifests["problems"]).sources
    figures = tally.figures().to_dict()
    for name in ("mixture", "writers"):
        figures.pop(name, None)
    facts = CardFacts(
        title=about.get("name", "Distilled examples"),
        files=files,
        funnel=funnel_of(manifests, tally),
        origins={**about, **tally.origins()},
        figures={name: f"{value:,}" for name, value in figures.items()},
        fingerprints=fingerprints,
        sources=sources,
        mixture=tally.mixture,
        writers=tally.writers(),
    )
    store.write_text(folder / DATASET / layout.CARD, dataset_card(facts))


def funnel_of(manifests: Mapping[str, store.Manifest], tally: Tally) -> list[FunnelRow]:
    """What came into each stage, what came out and why the rest did not; this stage is the last."""
    rows: list[FunnelRow] = []
    for name, manifest in manifests.items():
        counts = manifest.counts
        rows.append(FunnelRow(name, counts.get("in", 0), counts.get("out", 0), manifest.dropped))
    rows.append(FunnelRow("examples", tally.total, tally.kept, tally.dropped))
    return rows


def sha256_of(path: Path) -> str:
    """The file's digest in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_exports(folder: Path, shapes: Sequence[str]) -> None:
    """Write the exports that are not there yet, `<shape>.<split>.jsonl`, and the card by which
    `datasets` finds them. Earlier versions called the train split `<shape>.jsonl`.
    """
    exports = folder / EXPORTS
    card = exports / layout.CARD
    for shape in shapes:
        for split in SPLITS:
            path = exports / f"{shape}.{split}.jsonl"
            if path.exists() or (split == "train" and (exports / f"{shape}.jsonl").exists()):
                continue
            with store.replacing(path) as file:
                shaped = map(export.SHAPES[shape], _of_split(folder, split))
                rows = export.write_jsonl(file, shaped)
                if rows and card.exists():
                    # Of a finished folder. Whoever goes on after a kill finds no card, and no sum
                    # of one that is not what was written.
                    store.unseal(folder, (EXPORTS,))
                    card.unlink()
            if rows == 0:
                path.unlink()
    if not shapes or card.exists():
        return
    found = {shape: _exported(exports, shape) for shape in export.SHAPES}
    there = {shape: files for shape, files in found.items() if files}
    asked_first = {shape: there[shape] for shape in shapes if shape in there}
    store.write_text(card, exports_card(asked_first | there))


def _exported(exports: Path, shape: str) -> list[DatasetFile]:
    files: list[DatasetFile] = []
    for split in SPLITS:
        names = [f"{shape}.{split}.jsonl"]
        if split == "train":
            names.append(f"{shape}.jsonl")
        for name in names:
            path = exports / name
            if path.exists():
                with open(path, "rb") as file:
                    rows = sum(1 for _ in file)
                if rows:  # none were left by a kill between two steps
                    files.append(DatasetFile(split, name, rows, sha256_of(path)))
                break
    return files


def _require_own_samples(folder: Path, tally: Tally) -> None:
    """Raise StageError where the student of a round has no example: the next one would learn what
    it learnt, and nothing else.
    """
    for writer in tally.writers():
        if writer.of_round is not None and writer.kept == 0:
            raise StageError(
                f"{folder}: none of the {writer.traces:,} traces of {writer.name}, the student of "
                f"round {writer.of_round}, becomes an example ({writer.correct:,} are correct): "
                f"{writer.reasons}. The next student would learn nothing that it has not learnt. "
                f"More samples or another temperature ([rounds] n, temperature) may help; see "
                f"{folder / DROPPED}."
            )
    for name in tally.rounds.keys() - {writer.name for writer in tally.writers()}:
        raise StageError(f"{folder}: there is no trace of {name}, the student of a round.")


def nothing_kept(folder: Path, tally: Tally) -> str:
    """What to tell when no trace makes an example: why, the most frequent reason first."""
    counts = tally.dropped.most_common()
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in counts)
    if not reasons:
        reasons = "there is no trace"
    path = folder / DROPPED
    return (
        f"{folder}: no example is left of {tally.total:,} traces: {reasons}. "
        f"See {path}; a better teacher, more samples (traces.n) or other "
        "[examples] settings may help."
    )
