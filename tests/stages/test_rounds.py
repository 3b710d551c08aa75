"""Drawing each problem until enough of its samples are correct."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from hypothesis import given
from hypothesis import settings as drawn
from hypothesis import strategies as st
from traces_kit import ONE_WORKER, opener, settings, traces_in, write_problems

from reasondistill.config import TraceSettings, load_pipeline
from reasondistill.errors import ConfigError, DriftError, StageError
from reasondistill.models.samplers import Request, Sampled, failed, problem_and_sample
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Completion, Ending, Trace
from reasondistill.runs.figures import DrawingFigures, TracesFigures
from reasondistill.runs.samples import drawn_problems
from reasondistill.runs.session import Session
from reasondistill.runs.store import Manifest, count_lines, read_records
from reasondistill.runs.work_sharing import Share, worker_folders
from reasondistill.sections import check_section
from reasondistill.stages.traces import run_traces
from reasondistill.stages.traces.rounds import Plan, Rule, Sample, plan_rounds

# By the problem's place: solved always, half the time, seldom, never.
RATES = (100, 50, 20, 0)
UNTIL = {"accepted": 2, "first": 4, "candidates": 8}


def text_of(request: Request) -> str:
    """Right as often as the problem's rate says, three to nine words before the answer."""
    problem_id, _ = problem_and_sample(request.id)
    place = int(problem_id.rpartition("/")[2])
    answer = 0
    if request.seed // 7 % 100 < RATES[place % len(RATES)]:
        answer = place + 1
    words = "so " * (3 + request.seed % 7)
    return f"{words}\\boxed{{{answer}}}"


def until(**values: object) -> TraceSettings:
    keys = {name: value for name, value in (UNTIL | values).items() if value is not None}
    teachers = ({"model": "fake", "sampler": "scripted"},)
    return TraceSettings.model_validate({"prompt": "question", "teachers": teachers} | keys)


def draw(
    traces: TraceSettings,
    problems: Path,
    folder: Path,
    script: Callable[[Request], str | Completion] = text_of,
    share: Share | None = None,
    **session: Any,
) -> tuple[Manifest, list[str]]:
    """Run the stage; its manifest, and the samples that were asked for."""
    asked: list[str] = []

    def noted(request: Request) -> str | Completion:
        asked.append(request.id)
        return script(request)

    serving = Serving(ONE_WORKER, opener(noted))  # type: ignore[arg-type]
    manifest = run_traces(traces, problems, folder, serving, Session(share=share, **session))
    return manifest, asked


def drawing_of(manifest: Manifest) -> DrawingFigures:
    drawing = TracesFigures.of(manifest).drawing
    assert drawing is not None
    return drawing


def endings_in(folder: Path) -> dict[str, Ending]:
    return {one.problem_id: one for one in read_records(folder / "endings.jsonl", Ending)}


# ---- the rule ------------------------------------------------------------------------------------


def samples(outcomes: str, tokens: int = 10) -> dict[int, Sample]:
    """One for each sign: + is correct."""
    return {number: Sample(tokens, sign == "+") for number, sign in enumerate(outcomes)}


def plan(rule: Rule, known: Mapping[str, str], **options: Any) -> Plan:
    table = {name: samples(outcomes) for name, outcomes in known.items()}
    return plan_rounds(rule, list(known), table, most_tokens=100, **options)


def test_each_problem_ends_for_one_of_four_reasons_by_hand() -> None:
    rule = Rule(accepted=2, first=4, candidates=8, budget_tokens=240)
    ended = plan(
        rule,
        # Of 240 tokens 200 are for the first rounds; 40 are left, for the second problem.
        {"a": "-+-+", "b": "+------+", "c": "-+------", "d": "--+-", "e": "----"},
    )
    assert not ended.missing
    assert [(one.reason, one.kept, one.correct) for one in ended.endings] == [
        ("accepted", 4, 2),
        ("accepted", 8, 2),
        ("budget", 4, 1),
        ("budget", 4, 1),
        ("hopeless", 4, 0),
    ]
    rich = Rule(accepted=2, first=4, candidates=8)
    assert plan(rich, {"c": "-+------"}).endings[0].reason == "exhausted"
    assert plan(rich, {"d": "--+-"}).missing == {"d": (4, 5, 6, 7)}


@pytest.mark.parametrize(
    ("drawn", "correct", "size"),
    [(0, 0, 4), (4, 0, 0), (4, 3, 0), (4, 2, 2), (4, 1, 4), (8, 1, 8), (12, 1, 4), (16, 1, 0)],
)
def test_a_round_is_as_large_as_it_need_be_and_at_most_doubles_what_there_is(
    drawn: int, correct: int, size: int
) -> None:
    assert Rule(accepted=3, first=4, candidates=16).next_round(drawn, correct) == size


def test_of_an_accepted_problem_all_up_to_the_last_wanted_correct_one_is_kept() -> None:
    (ending,) = plan(Rule(accepted=2, first=6, candidates=6), {"a": "-+-+++"}).endings
    assert (ending.kept, ending.correct, ending.drawn) == (4, 2, 6)


Tables = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=12, max_size=12),
    min_size=1,
    max_size=6,
)
Budgets = st.none() | st.integers(1, 900)


def table_of(rows: Sequence[Sequence[tuple[int, bool]]]) -> dict[str, dict[int, Sample]]:
    """Every sample that could ever be drawn of each problem."""
    table: dict[str, dict[int, Sample]] = {}
    for place, row in enumerate(rows):
        numbered = enumerate(row)
        table[f"p{place}"] = {number: Sample(*sample) for number, sample in numbered}
    return table


def drawn_to_the_end(
    rule: Rule, table: Mapping[str, Mapping[int, Sample]], known: dict[str, dict[int, Sample]]
) -> tuple[Ending, ...]:
    """Draw what each plan says until none says anything."""
    while True:
        now = plan_rounds(rule, list(table), known, most_tokens=30)
        if not now.missing:
            return now.endings
        for name, numbers in now.missing.items():
            for number in numbers:
                known.setdefault(name, {})[number] = table[name][number]


def kept_of(endings: Iterable[Ending]) -> list[tuple[str, str, int]]:
    return [(one.problem_id, one.reason, one.kept) for one in endings]


@drawn(max_examples=draws(60))
@given(rows=Tables, budget=Budgets, lot=st.integers(0, 999))
def test_who_draws_what_first_changes_nothing(
    rows: list[list[tuple[int, bool]]], budget: int | None, lot: int
) -> None:
    table = table_of(rows)
    rule = Rule(accepted=2, first=3, candidates=12, budget_tokens=budget)
    alone: dict[str, dict[int, Sample]] = {}
    expected = kept_of(drawn_to_the_end(rule, table, alone))
    # Workers who know nothing of each other, each with problems of its own, and some with samples
    # that nobody asked for.
    chance = random.Random(lot)
    together: dict[str, dict[int, Sample]] = {}
    for worker in range(3):
        mine = {name for name in table if chance.randrange(3) == worker}
        own: dict[str, dict[int, Sample]] = {}
        while True:
            now = plan_rounds(rule, list(table), own, most_tokens=30, mine=mine)
            if not now.missing:
                break
            for name, numbers in now.missing.items():
                for number in [*numbers, chance.randrange(12)]:
                    own.setdefault(name, {})[number] = table[name][number]
        together |= own
    assert kept_of(drawn_to_the_end(rule, table, together)) == expected
    if budget is not None:
        spent = sum(one.tokens for of_one in alone.values() for one in of_one.values())
        most = max((one.tokens for of_one in table.values() for one in of_one.values()), default=0)
        # What a guess has drawn too much: at most a round of each problem.
        assert spent <= budget + len(rows) * 6 * most


@drawn(max_examples=draws(60))
@given(rows=Tables, budget=st.integers(1, 900))
def test_a_rule_that_asks_for_more_takes_nothing_away(
    rows: list[list[tuple[int, bool]]], budget: int
) -> None:
    table = table_of(rows)
    small = Rule(accepted=1, first=2, candidates=8)
    cut = Rule(accepted=1, first=2, candidates=8, budget_tokens=budget)
    larger = {
        small: [
            Rule(accepted=2, first=2, candidates=8),
            Rule(accepted=1, first=5, candidates=8),
            Rule(accepted=1, first=2, candidates=12),
        ],
        cut: [small, Rule(accepted=1, first=2, candidates=8, budget_tokens=budget + 70)],
    }
    for rule, others in larger.items():
        before = drawn_to_the_end(rule, table, {})
        for other in others:
            after = drawn_to_the_end(other, table, {})
            for old, new in zip(before, after, strict=True):
                assert new.kept >= old.kept


@pytest.mark.parametrize("candidates", [8, "8", 8.0])
def test_however_candidates_are_written_they_are_the_most(candidates: object) -> None:
    assert until(candidates=candidates).n == 8


def test_candidates_that_are_no_number_are_told_of_once() -> None:
    values = {"prompt": "question", "teachers": [{"model": "fake", "sampler": "scripted"}]}
    with pytest.raises(ConfigError) as told:
        check_section(Path("f.toml"), TraceSettings, values | UNTIL | {"candidates": 0})
    assert str(told.value) == ("f.toml candidates: should be greater than or equal to 1 (found 0)")


# ---- the stage -----------------------------------------------------------------------------------


def test_the_traces_are_those_that_drawing_one_by_one_would_have_kept(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 80)
    folder = tmp_path / "t"
    manifest, asked = draw(until(), problems, folder)
    endings = endings_in(folder)
    kept = traces_in(folder)
    by_problem = Counter(trace.problem_id for trace in kept)
    assert {name: one.kept for name, one in endings.items()} == {
        name: by_problem[name] for name in endings
    }
    for place in range(80):
        name = f"sums/train/{place}"
        texts = [trace.completion.answer_text for trace in kept if trace.problem_id == name]
        right = [f"\\boxed{{{place + 1}}}" in text for text in texts]
        ending = endings[name]
        assert sum(right) == ending.correct
        if ending.reason == "accepted":
            assert ending.correct == 2 and right[-1]
        elif ending.reason == "exhausted":
            assert len(right) == 8 and ending.correct == 1
        else:
            assert ending.reason == "hopeless" and len(right) == 4 and not any(right)
    reasons = Counter(one.reason for one in endings.values())
    assert reasons["accepted"] >= 30 and reasons["hopeless"] >= 20 and reasons["exhausted"] >= 1
    drawing = drawing_of(manifest)
    assert (drawing.accepted, drawing.exhausted, drawing.hopeless, drawing.budget) == (
        reasons["accepted"],
        reasons["exhausted"],
        reasons["hopeless"],
        0,
    )
    assert len(set(asked)) == len(asked) == drawing.drawn == len(kept) + drawing.trimmed
    assert count_lines(folder / "trimmed.jsonl") == drawing.trimmed > 0
    assert drawing.spared == 80 * 8 - len(asked)
    assert manifest.counts == {"in": 80, "out": len(kept)}
    tokens = sum(trace.completion.tokens for trace in kept)
    assert manifest.figures["tokens"] == tokens == drawing.drawn_tokens - drawing.trimmed_tokens
    assert drawing.verified == sum(one.correct for one in endings.values())


def shared(
    traces: TraceSettings, problems: Path, folder: Path, *, killed: bool = False
) -> Manifest:
    """Three workers one after the other; one of them may be killed, and started again."""
    draw(traces, problems, folder, share=Share("open", of=3))
    if killed:
        kill_at_work(traces, problems, folder)
    for number in range(3):
        draw(traces, problems, folder, share=Share("work", number, 3))
    manifest, _ = draw(traces, problems, folder, share=Share("close", of=3))
    return manifest


def kill_at_work(traces: TraceSettings, problems: Path, folder: Path) -> None:
    """Worker 1 gets a kill -9 when twenty of its samples are on the disk."""

    def deadly(request: Request) -> str:
        for part in worker_folders(folder):
            if count_lines(part / "traces.jsonl") >= 20:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return text_of(request)

    child = os.fork()
    if child == 0:
        draw(traces, problems, folder, deadly, share=Share("work", 1, 3))
        os._exit(0)  # not reached: it is killed before
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("budget", [None, 1_500, 1_700])
def test_one_worker_three_and_three_with_a_kill_leave_the_same_traces(
    tmp_path: Path, budget: int | None
) -> None:
    problems = write_problems(tmp_path / "1-problems", 60)
    traces = until(budget_tokens=budget)
    alone, _ = draw(traces, problems, tmp_path / "one")
    three = shared(traces, problems, tmp_path / "three")
    killed = shared(traces, problems, tmp_path / "killed", killed=True)
    for name in ("traces.jsonl", "endings.jsonl"):
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "three" / name).read_bytes() == expected
        assert (tmp_path / "killed" / name).read_bytes() == expected
    assert alone.output == three.output == killed.output
    drawn = drawing_of(alone)
    if budget is None:
        assert drawing_of(three) == drawn
    else:
        # 1,500 tokens are not enough for all first rounds, 1,700 for all others.
        assert drawn.budget > 0 and drawn.accepted > 20
        never_begun = sum(one.kept == 0 for one in endings_in(tmp_path / "one").values())
        assert (never_begun > 0) == (budget == 1_500)
        assert budget <= drawn.drawn_tokens < 1.2 * budget
        assert drawing_of(three).drawn_tokens < 1.5 * budget


def test_a_worker_that_has_seen_nothing_holds_its_part_of_the_budget(tmp_path: Path) -> None:
    """Its engine has room for 64 samples, of at most 12 tokens each."""
    problems = write_problems(tmp_path / "1-problems", 60)
    folder = tmp_path / "t"
    traces = until(budget_tokens=600, max_tokens=12)
    begun: list[str] = []

    def noted(request: Request) -> str:
        begun.append(request.id)
        return text_of(request)

    class Counted(ScriptedSampler):
        """Remembers how many samples were begun before the first one ended."""

        def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
            for sampled in super().sample(requests):
                held.append(len(begun))
                yield sampled

    held: list[int] = []
    one = Serving(ONE_WORKER, lambda *_: Counted(noted, model="fake", at_once=64))
    draw(traces, problems, folder, share=Share("open", of=3))
    for number in range(3):
        before = len(begun)
        held.clear()
        run_traces(traces, problems, folder, one, Session(share=Share("work", number, 3)))
        if held:
            assert held[0] - before <= 600 / 3 / 12
    assert begun
    shared_out, _ = draw(traces, problems, folder, share=Share("close", of=3))
    alone, _ = draw(traces, problems, tmp_path / "one")
    assert shared_out.output == alone.output
    beyond = drawing_of(shared_out).beyond_budget
    assert beyond == drawing_of(shared_out).drawn_tokens - 600
    assert f"{beyond:,} of them beyond the budget" in drawing_of(shared_out).sentence


def test_a_worker_that_never_came_is_said_and_the_next_attempt_draws_the_rest(
    tmp_path: Path,
) -> None:
    problems = write_problems(tmp_path / "1-problems", 12)
    folder = tmp_path / "t"
    draw(until(), problems, folder, share=Share("open", of=2))
    draw(until(), problems, folder, share=Share("work", 0, 2))
    part = worker_folders(folder)[0] / "traces.jsonl"
    part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:9]))
    with pytest.raises(StageError, match=r"samples are missing: a worker has ended early"):
        draw(until(), problems, folder, share=Share("close", of=2))
    draw(until(), problems, folder)
    draw(until(), problems, tmp_path / "whole")
    whole = (tmp_path / "whole" / "traces.jsonl").read_bytes()
    assert (folder / "traces.jsonl").read_bytes() == whole


def test_samples_that_say_nothing_of_the_others_do_not_spend_the_budget_at_once(
    tmp_path: Path,
) -> None:
    """The first problem's samples fail, or are short: all others still wait for their turn."""
    problems = write_problems(tmp_path / "1-problems", 60)

    def loses(request: Request) -> str | Completion:
        if request.id.startswith("sums/train/0:"):
            return failed("HTTP 503")
        return text_of(request)

    def is_short(request: Request) -> str:
        if request.id.startswith("sums/train/0:"):
            return "\\boxed{1}"
        return "so " * 50 + text_of(request)

    scripts: tuple[tuple[Callable[[Request], str | Completion], int], ...] = (
        (loses, 300),
        (is_short, 2_000),
    )
    for place, (script, budget) in enumerate(scripts):
        traces = until(budget_tokens=budget, max_tokens=200, failures_allowed=1)
        manifest, _ = draw(traces, problems, tmp_path / f"{place}", script)
        assert budget <= drawing_of(manifest).drawn_tokens < 1.3 * budget


def test_what_may_be_lost_is_a_share_of_what_a_budget_has_drawn(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 60)

    def loses(request: Request) -> str | Completion:
        if request.id.endswith("/2:1"):
            return failed("HTTP 503")
        return text_of(request)

    # 240 samples are in the first rounds of all problems, about 40 are drawn.
    few = until(budget_tokens=300, max_tokens=50, failures_allowed=0.02)
    with pytest.raises(StageError, match=r"1 of [3-6]\d samples were lost, .* allows 0"):
        draw(few, problems, tmp_path / "few", loses)
    many = until(budget_tokens=1_500, max_tokens=50, failures_allowed=0.02)
    manifest, _ = draw(many, problems, tmp_path / "many", loses)
    assert manifest.counts["failed"] == 1

    def is_dead(request: Request) -> Completion:
        return failed("HTTP 503")

    patient = until(budget_tokens=300, max_tokens=50, failures_allowed=0.9)
    with pytest.raises(StageError, match="all 32 samples failed"):
        draw(patient, problems, tmp_path / "dead", is_dead)


def test_a_problem_of_which_all_is_trimmed_counts_as_drawn(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 60)
    folder = tmp_path / "t"
    shared(until(budget_tokens=20), problems, folder)
    kept = {trace.problem_id for trace in traces_in(folder)}
    trimmed = {one.problem_id for one in read_records(folder / "trimmed.jsonl", Trace)}
    assert trimmed - kept
    assert drawn_problems(folder) == kept | trimmed


@pytest.mark.parametrize(
    "larger", [{"accepted": 3}, {"candidates": 20}, {"first": 7}, {"limit": 16}, {"n": 12}]
)
def test_what_stands_stays_when_more_is_asked_for(tmp_path: Path, larger: dict[str, int]) -> None:
    problems = write_problems(tmp_path / "1-problems", 16)
    folder = tmp_path / "t"
    few = 8 if "limit" in larger else None
    serving = Serving(ONE_WORKER, opener(text_of))
    run_traces(until(), problems, folder, serving, limit=few)
    before = (folder / "traces.jsonl").read_bytes().splitlines()
    trimmed = (folder / "trimmed.jsonl").read_bytes().splitlines()
    asked: list[str] = []

    def noted(request: Request) -> str:
        asked.append(request.id)
        return text_of(request)

    traces = until()
    if "n" in larger:
        traces = settings(n=12)
    elif "limit" not in larger:
        traces = until(**larger)
    run_traces(traces, problems, folder, Serving(ONE_WORKER, opener(noted)))
    after = (folder / "traces.jsonl").read_bytes().splitlines()
    assert set(before) < set(after)
    stood = {line.split(b'"')[3].decode() for line in [*before, *trimmed]}
    assert not stood & set(asked)
    run_traces(traces, problems, tmp_path / "fresh", serving)
    assert (tmp_path / "fresh" / "traces.jsonl").read_bytes().splitlines() == after
    if "n" in larger:
        assert not (folder / "trimmed.jsonl").exists() and not (folder / "endings.jsonl").exists()


def test_what_a_budget_would_take_from_others_is_refused_and_a_larger_one_is_not(
    tmp_path: Path,
) -> None:
    problems = write_problems(tmp_path / "1-problems", 16)
    folder = tmp_path / "t"
    first, _ = draw(until(budget_tokens=400), problems, folder)
    before = (folder / "traces.jsonl").read_bytes().splitlines()
    for changed in ({"accepted": 3}, {"candidates": 20}, {"first": 5}, {"budget_tokens": 399}):
        with pytest.raises(DriftError, match="made from other settings"):
            draw(until(**{"budget_tokens": 400, **changed}), problems, folder)
    with pytest.raises(DriftError, match=r"until was"):
        draw(settings(n=4), problems, folder)
    assert drawing_of(first).budget > 0
    draw(until(budget_tokens=450), problems, folder)
    more = (folder / "traces.jsonl").read_bytes().splitlines()
    assert set(before) < set(more)
    manifest, _ = draw(until(), problems, folder)
    assert set(more) <= set((folder / "traces.jsonl").read_bytes().splitlines())
    assert drawing_of(manifest).budget == 0


def test_a_file_that_sets_n_can_be_tried_with_accepted() -> None:
    path = Path(__file__).parents[2] / "pipelines" / "gsm8k_sft.toml"
    plain = load_pipeline(path).traces
    options = ["traces.n=none", "traces.accepted=2", "traces.candidates=8"]
    tried = load_pipeline(path, options).traces
    assert plain is not None and tried is not None
    assert plain.accepted is None and (tried.accepted, tried.n) == (2, 8)
    with pytest.raises(ConfigError, match="n: not beside accepted"):
        load_pipeline(path, options[1:])


def test_n_samples_each_do_not_become_fewer(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems")
    draw(settings(n=4), problems, tmp_path / "t")
    with pytest.raises(DriftError, match="until was absent"):
        draw(until(), problems, tmp_path / "t")


def test_a_lost_sample_is_drawn_again_and_its_problem_goes_on_from_there(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 8)

    def loses(request: Request) -> str | Completion:
        if request.id in ("sums/train/0:1", "sums/train/1:0"):
            return failed("HTTP 503")
        return text_of(request)

    traces = until(failures_allowed=0.2)
    lossy, _ = draw(traces, problems, tmp_path / "t", loses)
    assert lossy.counts["failed"] == 2
    whole, asked = draw(traces, problems, tmp_path / "t", heal=True)
    assert {"sums/train/0:1", "sums/train/1:0"} <= set(asked) and len(asked) < 12
    assert "failed" not in whole.counts
    draw(traces, problems, tmp_path / "fresh")
    fresh = (tmp_path / "fresh" / "traces.jsonl").read_bytes()
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == fresh


def test_two_teachers_share_problems_and_one_budget(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 24)
    teachers = (
        {"model": "one", "sampler": "scripted"},
        {"model": "other", "sampler": "scripted"},
    )
    for budget in (None, 600):
        traces = until(budget_tokens=budget, teachers=teachers)
        folder = tmp_path / f"t{budget}"
        manifest, _ = draw(traces, problems, folder)
        assert {trace.model for trace in traces_in(folder)} == {"one", "other"}
        shared(traces, problems, tmp_path / f"three{budget}")
        three = (tmp_path / f"three{budget}" / "traces.jsonl").read_bytes()
        assert (folder / "traces.jsonl").read_bytes() == three
        assert bool(drawing_of(manifest).budget) == (budget is not None)


def test_a_stop_between_two_rounds_is_gone_on_from(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 12)
    folder = tmp_path / "t"

    def breaks(request: Request) -> str:
        if request.id.endswith(":5"):
            raise KeyboardInterrupt
        return text_of(request)

    with pytest.raises(KeyboardInterrupt):
        draw(until(), problems, folder, breaks)
    stood = count_lines(folder / "traces.jsonl")
    assert stood >= 48
    _, asked = draw(until(), problems, folder)
    whole, all_asked = draw(until(), problems, tmp_path / "whole")
    assert len(asked) == len(all_asked) - stood
    expected = (tmp_path / "whole" / "traces.jsonl").read_bytes()
    assert (folder / "traces.jsonl").read_bytes() == expected
    assert drawing_of(whole).drawn == len(all_asked)
