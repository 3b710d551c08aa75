"""What grows keeps all that stands: problems, traces, verdicts, examples, students."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import traces_kit
from cluster_kit import wait_until
from traces_kit import ONE_WORKER, InSteps, make_earlier, settings, text_of, traces_in

from reasondistill.config import (
    Cluster,
    ExampleSettings,
    JudgeSettings,
    ModelSettings,
    ProblemSource,
    StudentSettings,
    TraceSettings,
    TrainSettings,
    VerdictSettings,
)
from reasondistill.curation.benchmarks import HeldOut
from reasondistill.curation.growing import Standing
from reasondistill.errors import DriftError
from reasondistill.grading import GRADER, GradeItem
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import Request, failed
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.models.weights import model_identity
from reasondistill.records import Completion, Example, Grade, Problem, SetAside
from reasondistill.runs import store
from reasondistill.runs.growth import asked_in, stood_in
from reasondistill.runs.kept import kept_students
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.missing import read_missing
from reasondistill.runs.session import Session
from reasondistill.runs.staleness import changed_inputs, outputs_of, read_manifests
from reasondistill.runs.store import Identity
from reasondistill.runs.work_sharing import Share
from reasondistill.stages.examples import ExampleInputs, run_examples
from reasondistill.stages.problems import run_problems
from reasondistill.stages.students import StudentJob
from reasondistill.stages.students.growing import keep_what_stands
from reasondistill.stages.traces import run_traces
from reasondistill.stages.verdicts import run_verdicts


class Willing:
    """A grader to whom every gold is right."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        for item in items:
            yield (
                item.id,
                Grade(
                    outcome="correct",
                    extracted=item.gold,
                    layer="string",
                    reason="equal",
                    grader=GRADER,
                    seconds=0.0,
                ),
            )


class Strict(Willing):
    """A grader to whom no gold is right."""

    def grade_many(self, items: Iterable[GradeItem]) -> Iterator[tuple[str, Grade]]:
        for name, grade in super().grade_many(items):
            yield name, grade.model_copy(update={"outcome": "undecided", "reason": "timeout"})


def rows(count: int) -> list[dict[str, str]]:
    return [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(count)]


def made(
    tmp_path: Path,
    data: list[dict[str, str]] | None = None,
    *,
    held_out: Sequence[HeldOut] = (),
    has_traces: bool = True,
    drawn: Container[str] = frozenset(f"sums/train/{i}" for i in range(50)),
    pool: Willing | None = None,
    **keys: Any,
) -> store.Manifest:
    """The problems of these rows, in the same folder each time."""
    path = tmp_path / "sums.jsonl"
    lines = [json.dumps(row) for row in (rows(20) if data is None else data)]
    path.write_text("\n".join(lines) + "\n")
    source = ProblemSource(source="file", dataset=str(path), **keys)
    if not has_traces:
        drawn = ()
    return run_problems(
        source, tmp_path / "out", pool=pool or Willing(), held_out=held_out, drawn=lambda: drawn
    )


def in_gsm8k(*questions: str) -> list[HeldOut]:
    return [HeldOut("gsm8k", f"{i}", question) for i, question in enumerate(questions)]


def lines_of(tmp_path: Path, name: str = "problems.jsonl") -> list[bytes]:
    return (tmp_path / "out" / name).read_bytes().splitlines()


def state_of(folder: Path) -> dict[str, bytes]:
    """The files that people see."""
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")
    }


# ---- problems ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_larger_limit_keeps_the_problems_that_stand_and_names_what_they_were(
    tmp_path: Path, shuffle: bool
) -> None:
    first = made(tmp_path, limit=5, shuffle=shuffle)
    stood, asked = lines_of(tmp_path), asked_in(tmp_path / "out" / "problems.jsonl")
    second = made(tmp_path, limit=8, shuffle=shuffle)
    assert second.status == "complete" and second.counts == {"in": 8, "out": 8}
    assert lines_of(tmp_path)[:5] == stood
    assert stood_in(tmp_path / "out") == {first.output, asked}
    third = made(tmp_path, shuffle=shuffle)
    assert third.counts["out"] == 20 and lines_of(tmp_path)[:5] == stood
    assert {first.output, second.output} < set(third.stood)
    before = state_of(tmp_path / "out")
    assert made(tmp_path, shuffle=shuffle) == third and state_of(tmp_path / "out") == before


def test_a_longer_file_and_a_wider_filter_are_growth_too(tmp_path: Path) -> None:
    data = [row | {"level": str(i % 2)} for i, row in enumerate(rows(12))]
    made(tmp_path, data[:6], filter={"level": ["1"]})
    stood = lines_of(tmp_path)
    made(tmp_path, data, filter={"level": ["1"]})
    assert lines_of(tmp_path)[:3] == stood and len(lines_of(tmp_path)) == 6
    wider = made(tmp_path, data, filter={"level": ["0", "1"]})
    assert wider.counts["out"] == 12 and set(stood) < set(lines_of(tmp_path))


def test_the_problem_that_stands_is_the_one_that_stays_of_equal_questions(tmp_path: Path) -> None:
    data = [row | {"level": str(i % 2)} for i, row in enumerate(rows(6))]
    data[0] = data[3] | {"level": "0"}
    made(tmp_path, data, filter={"level": ["1"]})
    stood = lines_of(tmp_path)
    grown = made(tmp_path, data, filter={"level": ["0", "1"]})
    assert set(stood) < set(lines_of(tmp_path)) and grown.dropped == {"duplicate question": 1}
    (aside,) = store.read_records(tmp_path / "out" / "set_aside.jsonl", SetAside)
    assert (aside.id, aside.detail) == ("sums/train/0", "the same question as sums/train/3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "7"}, "its question, its gold or another field is another one"),
        ({"question": "What is two?"}, "its question, its gold or another field is another one"),
        ({"answer": ""}, "it would be set aside: no answer"),
        (None, "it does not come any more"),
    ],
)
def test_a_problem_that_is_another_one_now_is_drift_and_the_folder_stays_as_it_was(
    tmp_path: Path, change: dict[str, str] | None, said: str
) -> None:
    made(tmp_path, rows(5), limit=5)
    before = state_of(tmp_path / "out")
    changed = rows(8)
    if change is None:
        del changed[4:]
    else:
        changed[4] |= change
    with pytest.raises(DriftError, match=f"limit was 5, is 8[^§]*sums/train/4: {said}"):
        made(tmp_path, changed, limit=8)
    assert state_of(tmp_path / "out") == before
    assert made(tmp_path, rows(5), limit=5).status == "complete"


def test_other_settings_are_drift_without_a_look_at_the_rows(tmp_path: Path) -> None:
    made(tmp_path, limit=5)
    with pytest.raises(DriftError, match="shuffle was false, is true"):
        made(tmp_path, [], limit=8, shuffle=True)


def test_a_problem_that_a_later_benchmark_has_stays_and_is_held_out(tmp_path: Path) -> None:
    made(tmp_path, limit=5)
    stood = lines_of(tmp_path)
    held_out = in_gsm8k("What is 2+1?", "What is 6+1?")
    grown = made(tmp_path, limit=8, held_out=held_out)
    assert lines_of(tmp_path)[:5] == stood and grown.counts == {"in": 8, "out": 7}
    assert grown.dropped == {"held out: in benchmark gsm8k": 1}
    assert grown.figures["left_out"] == 1
    (kept,) = store.read_records(tmp_path / "out" / "left_out.jsonl", SetAside)
    assert kept.id == "sums/train/2" and kept.reason == "held out: in benchmark gsm8k"
    # Without that benchmark again they are problems like the others.
    back = made(tmp_path, limit=8)
    assert back.counts["out"] == 8 and "left_out" not in back.figures
    assert lines_of(tmp_path, "left_out.jsonl") == []
    assert {problem.id for problem in problems_in(tmp_path)} >= {"sums/train/2", "sums/train/6"}


def test_a_problem_without_traces_is_set_aside_when_a_benchmark_has_it(tmp_path: Path) -> None:
    made(tmp_path, limit=5)
    held_out = in_gsm8k("What is 2+1?")
    made(tmp_path, limit=5, held_out=held_out, has_traces=False)
    assert "sums/train/2" not in {problem.id for problem in problems_in(tmp_path)}
    assert not (tmp_path / "out" / "left_out.jsonl").exists()


def test_a_lower_limit_leaves_out_what_has_traces_and_a_larger_one_takes_it_in_again(
    tmp_path: Path,
) -> None:
    first = made(tmp_path, limit=8)
    stood = lines_of(tmp_path)
    less = made(tmp_path, limit=3)
    assert lines_of(tmp_path) == stood and less.output == first.output
    assert less.counts == {"in": 8, "out": 8} and less.figures["left_out"] == 5
    left = list(store.read_records(tmp_path / "out" / "left_out.jsonl", SetAside))
    assert {entry.reason for entry in left} == {"beyond problems.limit"}
    assert [entry.id for entry in left] == [f"sums/train/{i}" for i in range(3, 8)]
    made(tmp_path, limit=5)
    assert lines_of(tmp_path) == stood and len(lines_of(tmp_path, "left_out.jsonl")) == 3
    made(tmp_path, limit=10)
    assert lines_of(tmp_path)[:8] == stood and not lines_of(tmp_path, "left_out.jsonl")
    # What nobody has drawn is of no use.
    made(tmp_path, limit=3, has_traces=False)
    assert lines_of(tmp_path) == stood[:3] and not lines_of(tmp_path, "left_out.jsonl")


@pytest.mark.parametrize("at", ["write_records", "rewrite_shard", "finish_stage"])
def test_a_lower_limit_that_was_killed_goes_on(tmp_path: Path, at: str) -> None:
    made(tmp_path, limit=8)
    stood = lines_of(tmp_path)
    killed(at, lambda: made(tmp_path, limit=3))
    made(tmp_path, limit=3)
    assert lines_of(tmp_path) == stood and len(lines_of(tmp_path, "left_out.jsonl")) == 5


def problems_in(tmp_path: Path) -> list[Problem]:
    return list(store.read_records(tmp_path / "out" / "problems.jsonl", Problem))


def killed(at: str, act: Callable[[], object]) -> None:
    """Do it in a process of its own that is dead when it calls `at` of the store."""
    pid = os.fork()
    if pid == 0:
        setattr(store, at, lambda *_, **__: os._exit(9))
        act()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


@pytest.mark.parametrize("at", ["write_records", "rewrite_shard", "finish_stage"])
def test_problems_that_were_killed_while_they_grew_go_on(tmp_path: Path, at: str) -> None:
    first = made(tmp_path, limit=5)
    stood = lines_of(tmp_path)
    killed(at, lambda: made(tmp_path, limit=8))
    assert (store.read_manifest(tmp_path / "out") or first).status == "partial"
    # What stands still has to come again.
    other = rows(8)
    other[1]["answer"] = "99"
    with pytest.raises(DriftError, match="sums/train/1"):
        made(tmp_path, other, limit=8)
    grown = made(tmp_path, limit=12)
    assert grown.counts["out"] == 12 and lines_of(tmp_path)[:5] == stood
    assert first.output in grown.stood


def test_what_came_before_a_kill_has_to_come_again_from_another_file_too(tmp_path: Path) -> None:
    made(tmp_path, limit=5)
    killed("finish_stage", lambda: made(tmp_path, limit=8))
    with pytest.raises(DriftError, match="sums/train/3: it does not come any more"):
        made(tmp_path, rows(3), limit=8)


def test_what_stands_is_kept_in_memory_without_its_texts(tmp_path: Path) -> None:
    data = [row | {"solution": f"{row['question']} " * 2_000} for row in rows(50)]
    made(tmp_path, data, solution="solution")
    path = tmp_path / "out" / "problems.jsonl"
    names = {problem.id for problem in problems_in(tmp_path)}
    tracemalloc.start()
    try:
        standing = Standing(path, names)
        for _ in standing.seen(store.read_records(path, Problem)):
            pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 1_000_000 and held < 200_000
    gone = [SetAside(id=one.id, reason="r", detail="", origin=one.origin)
            for one in problems_in(tmp_path)]  # fmt: skip
    assert list(standing.kept(gone)) == problems_in(tmp_path)


def test_a_lower_limit_excuses_no_row_that_is_gone(tmp_path: Path) -> None:
    made(tmp_path, limit=8)
    with pytest.raises(DriftError, match="sums/train/2: it does not come any more"):
        made(tmp_path, rows(2), limit=5)
    lower = made(tmp_path, limit=5, held_out=in_gsm8k("What is 0+1?"))
    assert lower.figures["left_out"] == 4


FARM = (
    "A farmer has 17 sheep and 25 goats on a meadow behind the mill. Every evening 3 of the goats "
    "climb over the fence and come back. How many animals are on the meadow at night?"
)
EDITED = FARM.replace("behind the mill", "behind the old mill")


def asking(*questions: str) -> list[dict[str, str]]:
    return [{"question": question, "answer": "39"} for question in questions]


def ids(entries: Iterable[Problem | SetAside]) -> list[str]:
    return [entry.id for entry in entries]


def test_of_near_duplicates_the_one_with_traces_stays_and_no_other_comes(tmp_path: Path) -> None:
    def made_of(rows: list[dict[str, str]], **keys: Any) -> store.Manifest:
        return made(tmp_path, rows, id="id", drawn={"sums/train/b"}, **keys)

    old = [row | {"id": "b"} for row in asking(EDITED)]
    new = [row | {"id": name} for row, name in zip(asking(FARM, "2+2?"), "ac", strict=True)]
    made_of(old)
    (stood,) = lines_of(tmp_path)
    # The new ones stand before it in the file, and duplicates are looked for only now.
    grown = made_of([*new, *old], near_duplicates={})
    assert ids(problems_in(tmp_path)) == ["sums/train/c", "sums/train/b"]
    assert lines_of(tmp_path)[1] == stood and "left_out" not in grown.figures
    (aside,) = store.read_records(tmp_path / "out" / "set_aside.jsonl", SetAside)
    assert aside.id == "sums/train/a" and aside.detail.endswith("like sums/train/b")


def test_two_near_duplicates_with_traces_both_stay(tmp_path: Path) -> None:
    made(tmp_path, asking(FARM, EDITED))
    stood = lines_of(tmp_path)
    made(tmp_path, asking(FARM, EDITED), near_duplicates={})
    assert lines_of(tmp_path) == stood
    made(tmp_path, asking(FARM, EDITED), has_traces=False, near_duplicates={"words": 2})
    assert lines_of(tmp_path) == stood[:1]


def test_leaks_that_are_looked_for_later_leave_out_what_has_traces(tmp_path: Path) -> None:
    rows = asking(f"Read this, then think.\n\n{FARM}\n\nThere are 5 points for it.", "2+2?")
    made(tmp_path, rows)
    stood = lines_of(tmp_path)
    later = made(tmp_path, rows, held_out=in_gsm8k(FARM), decontaminate={})
    assert lines_of(tmp_path) == stood and later.figures["left_out"] == 1
    (left,) = store.read_records(tmp_path / "out" / "left_out.jsonl", SetAside)
    assert left.id == "sums/train/0" and left.reason == "held out: near a question of gsm8k"


def test_a_leak_is_found_in_a_problem_whose_gold_does_not_grade_itself_any_more(
    tmp_path: Path,
) -> None:
    rows = asking(f"Read this, then think.\n\n{FARM}\n\nThere are 5 points for it.", "2+2?")
    made(tmp_path, rows)
    stood = lines_of(tmp_path)
    later = made(tmp_path, rows, pool=Strict(), held_out=in_gsm8k(FARM), decontaminate={})
    assert lines_of(tmp_path) == stood and later.figures["left_out"] == 1
    (left,) = store.read_records(tmp_path / "out" / "left_out.jsonl", SetAside)
    assert left.id == "sums/train/0" and left.reason == "held out: near a question of gsm8k"


def test_a_refusal_leaves_what_was_found_between_problems_as_it_was(tmp_path: Path) -> None:
    made(tmp_path, asking(FARM, EDITED, "2+2?"), has_traces=False, near_duplicates={})
    before = state_of(tmp_path / "out")
    with pytest.raises(DriftError, match="sums/train/2: it does not come any more"):
        made(tmp_path, asking(FARM, "1+1?"), near_duplicates={})
    assert state_of(tmp_path / "out") == before


# ---- traces --------------------------------------------------------------------------------------


class Desk:
    """Opens scripted models and remembers what each was asked."""

    def __init__(self, says: Callable[[Request], str | Completion] = text_of) -> None:
        self.asked: list[tuple[str, str]] = []
        self.says = says

    def __call__(
        self, teacher: ModelSettings, cluster: Cluster, problems: object
    ) -> ScriptedSampler:
        def script(request: Request) -> str | Completion:
            self.asked.append((teacher.model, request.id))
            return self.says(request)

        return ScriptedSampler(script, model=teacher.model)


ONE = {"model": "fake", "sampler": "scripted"}
OTHER = {"model": "other", "sampler": "scripted"}
THIRD = {"model": "third", "sampler": "scripted"}


def draw(
    tmp_path: Path,
    *teachers: dict[str, Any],
    to: str = "t",
    share: Share | None = None,
    n: int = 2,
    says: Callable[[Request], str] = text_of,
    also: Sequence[dict[str, Any]] = (),
) -> list[tuple[str, str]]:
    """The traces of the problems; what was asked."""
    desk = Desk(says)
    run_traces(
        settings(n=n, teachers=teachers or (ONE,), also=tuple(also)),
        tmp_path / "out",
        tmp_path / to,
        Serving(Cluster(), desk),
        Session(share=share),
    )
    return desk.asked


def by_crew(
    tmp_path: Path, *teachers: dict[str, Any], to: str = "t", also: Sequence[dict[str, Any]] = ()
) -> list[tuple[str, str]]:
    draw(tmp_path, *teachers, to=to, also=also, share=Share("open", of=2))
    asked: list[tuple[str, str]] = []
    for number in range(2):
        asked += draw(tmp_path, *teachers, to=to, also=also, share=Share("work", number, 2))
    return asked + draw(tmp_path, *teachers, to=to, also=also, share=Share("close", of=2))


def traces_of(tmp_path: Path, folder: str = "t") -> list[bytes]:
    return (tmp_path / folder / "traces.jsonl").read_bytes().splitlines()


def teachers_of(tmp_path: Path) -> dict[str, str]:
    return {trace.problem_id: trace.model for trace in traces_in(tmp_path / "t")}


@pytest.mark.parametrize("draws", [draw, by_crew])
def test_more_problems_grow_the_traces_by_those_that_are_missing(
    tmp_path: Path, draws: Callable[..., list[tuple[str, str]]]
) -> None:
    made(tmp_path, limit=5)
    assert len(draws(tmp_path)) == 10
    stood = traces_of(tmp_path)
    made(tmp_path, limit=8)
    asked = draws(tmp_path)
    assert sorted(asked) == [("fake", f"sums/train/{i}:{k}") for i in (5, 6, 7) for k in (0, 1)]
    assert traces_of(tmp_path)[:10] == stood
    draw(tmp_path, to="alone")
    assert traces_of(tmp_path) == traces_of(tmp_path, "alone")
    assert not draws(tmp_path), "nothing is missing"
    manifest = store.require_complete(tmp_path / "t")
    assert manifest.counts == {"in": 8, "out": 16} and len(manifest.stood) == 1
    assert not (tmp_path / "t" / "traces.jsonl.sums").exists()


@pytest.mark.parametrize("draws", [draw, by_crew])
def test_a_lower_n_draws_nothing_of_what_stands_and_fewer_of_what_is_new(
    tmp_path: Path, draws: Callable[..., list[tuple[str, str]]]
) -> None:
    made(tmp_path, limit=4)
    draw(tmp_path, n=3)
    stood = traces_of(tmp_path)
    made(tmp_path, limit=6)
    asked = draws(tmp_path)
    assert sorted(asked) == [("fake", f"sums/train/{i}:{k}") for i in (4, 5) for k in (0, 1)]
    assert traces_of(tmp_path)[:12] == stood
    manifest = store.require_complete(tmp_path / "t")
    assert (manifest.section["n"], manifest.figures["beyond"]) == (2, 4)
    assert manifest.counts == {"in": 6, "out": 16} and not draws(tmp_path)
    assert read_missing(tmp_path / "t").words() == "16 of 16 samples"
    # What is there is not drawn again when n is larger again.
    assert sorted(draw(tmp_path, n=3)) == [("fake", f"sums/train/{i}:2") for i in (4, 5)]
    assert "beyond" not in store.require_complete(tmp_path / "t").figures
    draw(tmp_path, n=3, to="alone")
    assert traces_of(tmp_path) == traces_of(tmp_path, "alone")


def test_what_was_lost_beyond_a_lower_n_is_asked_for_no_more(tmp_path: Path) -> None:
    def loses(request: Request) -> str | Completion:
        number = int(request.id.rpartition(":")[2])
        return failed("HTTP 503") if number >= 2 else text_of(request)

    def drawn(n: int, says: Callable[[Request], str | Completion]) -> store.Manifest:
        serving = Serving(Cluster(), Desk(says))
        traces = settings(n=n, failures_allowed=0.5)
        return run_traces(traces, tmp_path / "out", tmp_path / "t", serving)

    made(tmp_path, limit=4)
    assert drawn(4, loses).counts == {"in": 4, "out": 16, "failed": 8}
    strict = settings(n=2, failures_allowed=0)
    manifest = run_traces(strict, tmp_path / "out", tmp_path / "t", Serving(Cluster(), Desk()))
    assert manifest.counts == {"in": 4, "out": 16} and manifest.figures["beyond"] == 8
    assert manifest.figures["errors"] == 0 and "causes" not in manifest.figures
    words = read_missing(tmp_path / "t").words()
    assert "lost" not in words and words == "16 of 16 samples"
    assert drawn(4, text_of).counts == {"in": 4, "out": 16}


def test_of_traces_that_are_not_finished_no_more_are_drawn_than_a_lower_n_asks(
    tmp_path: Path,
) -> None:
    made(tmp_path, limit=3)
    draw(tmp_path, n=1)
    draw(tmp_path, n=4, share=Share("open", of=2))
    assert sorted(draw(tmp_path, n=2)) == [("fake", f"sums/train/{i}:1") for i in range(3)]


def test_traces_grow_over_problems_that_come_in_between(tmp_path: Path) -> None:
    held_out = in_gsm8k("What is 1+1?")
    made(tmp_path, limit=5, held_out=held_out)
    draw(tmp_path)
    stood = traces_of(tmp_path)
    made(tmp_path, limit=5)
    assert {name for _, name in draw(tmp_path)} == {"sums/train/1:0", "sums/train/1:1"}
    assert traces_of(tmp_path)[:2] + traces_of(tmp_path)[4:] == stood
    # The problems without their folder's history: these begin with those that stand, others do not.
    shutil.rmtree(tmp_path / "out")
    made(tmp_path, limit=6)
    assert {name for _, name in draw(tmp_path)} == {"sums/train/5:0", "sums/train/5:1"}
    shutil.rmtree(tmp_path / "out")
    made(tmp_path, limit=9, held_out=held_out)
    with pytest.raises(DriftError, match="inputs.questions was .*limit was 6, is 8"):
        draw(tmp_path)


def test_traces_that_were_killed_while_they_grew_go_on_and_may_grow_more(tmp_path: Path) -> None:
    problems, folder = tmp_path / "out", tmp_path / "t"
    made(tmp_path, limit=3)
    draw(tmp_path, n=4)
    stood = traces_of(tmp_path)
    made(tmp_path, limit=12)
    command = [sys.executable, traces_kit.__file__, str(problems), str(folder), "0.05", "in-steps"]
    child = subprocess.Popen(command, start_new_session=True)
    wait_until(lambda: (folder / "unfinished.jsonl").exists() or child.poll() is not None)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    made(tmp_path, limit=16)
    steps = Serving(Cluster(), lambda *_: InSteps(0.0))
    manifest = run_traces(settings(n=4), problems, folder, steps)
    assert manifest.counts == {"in": 16, "out": 64} and traces_of(tmp_path)[:12] == stood
    assert any(trace.completion.continued_at for trace in traces_in(folder))


@pytest.mark.parametrize("draws", [draw, by_crew])
def test_who_writes_of_every_problem_is_added_behind_what_stands(
    tmp_path: Path, draws: Callable[..., list[tuple[str, str]]]
) -> None:
    made(tmp_path, limit=5)
    draws(tmp_path, ONE, OTHER)
    stood = traces_of(tmp_path)
    own = THIRD | {"n": 3, "name": "own", "temperature": 1.5, "prompt": "think", "of_round": 1}
    asked = draws(tmp_path, ONE, OTHER, also=[own])
    assert sorted(asked) == [("third", f"sums/train/{i}:{k}") for i in range(5) for k in (2, 3, 4)]
    assert set(stood) < set(traces_of(tmp_path))
    # In the order of problems, each with the samples of its teacher first.
    written = traces_in(tmp_path / "t")
    assert [trace.sample for trace in written] == [0, 1, 2, 3, 4] * 5
    assert {trace.model for trace in written if trace.sample >= 2} == {"own@third"}
    theirs, his = written[1], written[2]
    assert theirs.sampling is not None and his.sampling is not None
    assert his.sampling == theirs.sampling.model_copy(update={"temperature": 1.5})
    assert theirs.prompt.startswith("question@") and his.prompt.startswith("think@")
    assert not draws(tmp_path, ONE, OTHER, also=[own]), "nothing is missing"

    more = draws(tmp_path, ONE, OTHER, also=[own | {"n": 4}])
    assert sorted(more) == [("third", f"sums/train/{i}:5") for i in range(5)]
    draw(tmp_path, ONE, OTHER, also=[own | {"n": 4}], to="alone")
    assert traces_of(tmp_path) == traces_of(tmp_path, "alone")
    # Another problem is dealt to a teacher, and asked of him as well.
    made(tmp_path, limit=6)
    grown = draws(tmp_path, ONE, OTHER, also=[own | {"n": 4}])
    assert {name for _, name in grown} == {f"sums/train/5:{k}" for k in range(6)}

    # Where its first sample would stand, a teacher's stands already.
    draw(tmp_path, ONE, to="more", n=3)
    with pytest.raises(DriftError, match="also"):
        draw(tmp_path, ONE, to="more", also=[own])
    draw(tmp_path, ONE, to="more")
    with pytest.raises(DriftError, match="also"):
        draw(tmp_path, ONE, to="more", also=[own])

    with pytest.raises(DriftError, match="also.1.first was 2, is 3"):
        draw(tmp_path, ONE, OTHER, also=[own | {"n": 4}], n=3)
    with pytest.raises(DriftError, match="also.1.sampling.temperature"):
        draw(tmp_path, ONE, OTHER, also=[own | {"n": 4, "temperature": 1.0}])
    with pytest.raises(DriftError, match="also"):
        draw(tmp_path, ONE, OTHER)


@pytest.mark.parametrize("draws", [draw, by_crew])
def test_a_teacher_that_is_added_takes_no_drawn_problem_away(
    tmp_path: Path, draws: Callable[..., list[tuple[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    made(tmp_path, limit=8)
    draws(tmp_path, ONE)
    stood = traces_of(tmp_path)
    assert not draws(tmp_path, ONE, OTHER) and traces_of(tmp_path) == stood
    assert "other: no problem is this teacher's" in caplog.text
    made(tmp_path)
    asked = draws(tmp_path, ONE, OTHER)
    assert len(asked) == 2 * 12 and {teacher for teacher, _ in asked} == {"fake", "other"}
    assert traces_of(tmp_path)[:16] == stood
    first = teachers_of(tmp_path)
    assert {first[f"sums/train/{i}"] for i in range(8)} == {"fake"}
    # Further samples of a problem are its own teacher's, also when a third one has come.
    asked = draw(tmp_path, ONE, OTHER, THIRD, n=3)
    assert len(asked) == 20 and all(first[name[:-2]] == teacher for teacher, name in asked)
    assert teachers_of(tmp_path) == first


@pytest.mark.parametrize(
    ("teachers", "said"),
    [
        ((OTHER, ONE), "teachers.1.model was"),
        ((ONE,), r"teachers.2 was .*, is absent"),
        ((ONE, OTHER | {"share": 2.0}), "teachers.2.share"),
        ((ONE, OTHER, OTHER), "teachers.3 was absent"),
    ],
)
def test_other_teachers_are_no_growth(
    tmp_path: Path, teachers: tuple[dict[str, Any], ...], said: str
) -> None:
    made(tmp_path, limit=8)
    draw(tmp_path, ONE, OTHER)
    stood = traces_of(tmp_path)
    with pytest.raises(DriftError, match=said):
        draw(tmp_path, *teachers)
    assert traces_of(tmp_path) == stood


# ---- verdicts ------------------------------------------------------------------------------------


def grade(
    tmp_path: Path,
    to: str = "v",
    share: Share | None = None,
    judge: Desk | None = None,
    **keys: Any,
) -> store.Manifest:
    serving = Serving(ONE_WORKER)
    if judge is not None:
        serving = Serving(ONE_WORKER, judge)
        keys["judge"] = JudgeSettings(model="wise", sampler="scripted")
    return run_verdicts(
        VerdictSettings(**keys),
        tmp_path / "out",
        tmp_path / "t",
        tmp_path / to,
        serving,
        Session(share=share),
    )


def verdicts_of(tmp_path: Path, folder: str = "v") -> list[bytes]:
    return (tmp_path / folder / "verdicts.jsonl").read_bytes().splitlines()


def mark_first(tmp_path: Path) -> None:
    """Make the first verdict one that no grader would give."""
    make_earlier(tmp_path / "v")
    path = tmp_path / "v" / "verdicts.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    marked = re.sub(rb'"reason":"[^"]*"', b'"reason":"marked"', first)
    path.write_bytes(marked + b"".join(rest))


def test_a_lost_sample_that_comes_while_a_run_grows_may_leave_fewer_traces(
    tmp_path: Path,
) -> None:
    def says(request: Request) -> str:
        problem_id, number = request.id.rsplit(":", 1)
        answer = int(problem_id.rsplit("/", 1)[1]) + 1
        return "\\boxed{0}" if number == "2" else f"So it is \\boxed{{{answer}}}"

    def loses(request: Request) -> str | Completion:
        return failed("HTTP 503") if request.id == "sums/train/0:1" else says(request)

    until = {"accepted": 2, "first": 4, "candidates": 8, "failures_allowed": 0.5}
    keys: dict[str, Any] = {"prompt": "question", "teachers": [ONE]}
    traces = TraceSettings.model_validate(keys | until)

    def whole(limit: int, script: Callable[[Request], str | Completion]) -> list[str]:
        made(tmp_path, limit=limit)
        run_traces(traces, tmp_path / "out", tmp_path / "t", Serving(ONE_WORKER, Desk(script)))
        grade(tmp_path)
        counts = choose(tmp_path).counts
        names = [trace.id for trace in traces_in(tmp_path / "t")]
        assert counts["in"] == len(names) == len(verdicts_of(tmp_path))
        return names

    first = whole(2, loses)
    assert first == [f"sums/train/{name}" for name in ("0:0", "0:1", "0:2", "0:3", "1:0", "1:1")]
    grown = whole(3, says)
    assert grown == [f"sums/train/{i}:{k}" for i in range(3) for k in (0, 1)]


@pytest.mark.parametrize("is_shared", [False, True])
def test_grown_traces_keep_the_verdicts_that_stand(tmp_path: Path, is_shared: bool) -> None:
    made(tmp_path, limit=5)
    draw(tmp_path)
    grade(tmp_path)
    mark_first(tmp_path)
    stood = verdicts_of(tmp_path)
    made(tmp_path, limit=8)
    draw(tmp_path, n=3)
    if is_shared:
        grade(tmp_path, share=Share("open", of=2))
        grade(tmp_path, share=Share("work", 0, 2))
        grade(tmp_path, share=Share("work", 1, 2))
        grown = grade(tmp_path, share=Share("close", of=2))
    else:
        grown = grade(tmp_path)
    assert grown.counts == {"in": 24, "out": 24} and b'"marked"' in verdicts_of(tmp_path)[0]
    assert set(stood) < set(verdicts_of(tmp_path))
    grade(tmp_path, "alone")
    assert verdicts_of(tmp_path)[1:] == verdicts_of(tmp_path, "alone")[1:]
    # Another grader's verdicts are made anew, all of them.
    grade(tmp_path, policy="strict")
    assert b'"marked"' not in verdicts_of(tmp_path)[0]


def test_votes_are_counted_again_over_all_samples_when_they_grow(tmp_path: Path) -> None:
    data = [{"question": row["question"]} for row in rows(8)]
    made(tmp_path, data, answer="", limit=4)
    draw(tmp_path, n=3)
    grade(tmp_path, majority=0.5)
    made(tmp_path, data, answer="")
    draw(tmp_path, n=6)
    grown = grade(tmp_path, majority=0.5)
    alone = grade(tmp_path, "alone", majority=0.5)
    assert verdicts_of(tmp_path) == verdicts_of(tmp_path, "alone")
    assert (tmp_path / "v" / "labels.jsonl").read_bytes() == (
        tmp_path / "alone" / "labels.jsonl"
    ).read_bytes()
    assert grown.figures == alone.figures and len(grown.stood) == 1


def test_a_judge_is_asked_about_the_new_answers_alone_when_traces_grow(tmp_path: Path) -> None:
    huge = r"\boxed{9^{9^{9^{9}}}}"  # undecided by rules
    for limit, asked in ((2, ["sums/train/0:0", "sums/train/1:0"]), (3, ["sums/train/2:0"])):
        made(tmp_path, limit=limit)
        draw(tmp_path, says=lambda _: huge)
        judge = Desk(lambda _: "VERDICT: EQUAL")
        grown = grade(tmp_path, judge=judge)
        assert [name for _, name in judge.asked] == asked
    assert grown.figures["judged"] == 6
    grade(tmp_path, "alone", judge=Desk(lambda _: "VERDICT: EQUAL"))
    assert verdicts_of(tmp_path) == verdicts_of(tmp_path, "alone")


# ---- examples ------------------------------------------------------------------------------------


def choose(
    tmp_path: Path, *, unverified: bool = False, samples: int | None = None, **keys: Any
) -> store.Manifest:
    inputs = ExampleInputs(tmp_path / "out", tmp_path / "t", tmp_path / "v", samples=samples)
    return run_examples(
        ExampleSettings(outcomes=("correct", "wrong", "no_answer"), validation=0.25, **keys),
        load_prompt("question"),
        inputs,
        tmp_path / "e",
        about={},
        unverified=unverified,
    )


def test_examples_of_grown_traces_say_what_they_were_and_leave_out_what_is_held_out(
    tmp_path: Path,
) -> None:
    made(tmp_path, limit=5)
    draw(tmp_path)
    grade(tmp_path)
    first = choose(tmp_path, unverified=True)
    unverified = store.content_of(tmp_path / "e", ["unverified.jsonl"])
    made(tmp_path, limit=8, held_out=in_gsm8k("What is 2+1?"))
    draw(tmp_path)
    grade(tmp_path)
    grown = choose(tmp_path, unverified=True)
    assert stood_in(tmp_path / "e") == {first.output, unverified}
    assert grown.dropped["held out: in benchmark gsm8k"] == 2
    assert grown.counts["in"] == 16 == grown.counts["out"] + sum(grown.dropped.values())
    for name in ("examples.jsonl", "unverified.jsonl"):
        kept = store.read_records(tmp_path / "e" / name, Example)
        assert "sums/train/2" not in {example.problem_id for example in kept}
    assert choose(tmp_path, unverified=True) == grown
    # A benchmark that comes when all is drawn changes the examples alone.
    held_out = [HeldOut("aime", f"{i}", f"What is {i}+1?") for i in (2, 3)]
    made(tmp_path, limit=8, held_out=held_out)
    assert not draw(tmp_path)
    again = choose(tmp_path)
    assert again.dropped["held out: in benchmark aime"] == 4
    assert {first.output, grown.output} <= stood_in(tmp_path / "e")


def test_a_lower_limit_draws_nothing_and_makes_examples_of_a_part(tmp_path: Path) -> None:
    made(tmp_path, limit=8)
    draw(tmp_path)
    grade(tmp_path)
    first = choose(tmp_path)
    traces, verdicts = traces_of(tmp_path), verdicts_of(tmp_path)
    made(tmp_path, limit=3)
    assert not draw(tmp_path)
    grade(tmp_path)
    part = choose(tmp_path)
    assert (traces_of(tmp_path), verdicts_of(tmp_path)) == (traces, verdicts)
    assert part.counts["in"] == 16 and part.dropped["beyond problems.limit"] == 10
    assert part.stood == [first.output]
    made(tmp_path, limit=8)
    assert choose(tmp_path).output == first.output


def pass_rates(manifest: store.Manifest) -> dict[str, int]:
    figures = manifest.figures.items()
    return {name: value for name, value in figures if name.startswith("pass_rate")}


def test_a_lower_n_makes_examples_of_the_first_samples_as_if_there_were_no_others(
    tmp_path: Path,
) -> None:
    longest: dict[str, Any] = {"select": "longest", "unverified": True}
    outputs = ("examples.jsonl", "unverified.jsonl", "suspects.jsonl")

    def made_of(samples: int) -> tuple[store.Manifest, list[bytes]]:
        asked = draw(tmp_path, n=samples)
        assert not asked or not (tmp_path / "v").exists()
        grade(tmp_path)
        manifest = choose(tmp_path, samples=samples, **longest)
        return manifest, [(tmp_path / "e" / name).read_bytes() for name in outputs]

    made(tmp_path, limit=6)
    first, whole = made_of(5)
    verdicts = verdicts_of(tmp_path)
    part, fewer = made_of(2)
    assert verdicts_of(tmp_path) == verdicts and fewer != whole
    assert part.dropped["beyond traces.n"] == 18 and first.output in part.stood
    assert part.counts["in"] == 30 == part.counts["out"] + sum(part.dropped.values())
    again, same = made_of(5)
    assert again.output == first.output and same == whole
    for folder in ("t", "v", "e"):
        shutil.rmtree(tmp_path / folder)
    alone, theirs = made_of(2)
    assert theirs == fewer and "beyond traces.n" not in alone.dropped
    assert pass_rates(part) == pass_rates(alone) != pass_rates(first)
    # Alone, the last stage reads a part too.
    assert choose(tmp_path, samples=1, **longest).dropped["beyond traces.n"] == 6


def test_problems_that_nobody_has_drawn_are_not_drawn_when_the_limit_is_lower(
    tmp_path: Path,
) -> None:
    made(tmp_path, limit=8)
    draw(tmp_path, share=Share("open", of=2))
    made(tmp_path, limit=3, has_traces=False)
    assert len(draw(tmp_path)) == 6


def test_examples_that_were_killed_while_they_grew_are_made_anew(tmp_path: Path) -> None:
    made(tmp_path, limit=5)
    draw(tmp_path)
    grade(tmp_path)
    first = choose(tmp_path)
    made(tmp_path, limit=8)
    draw(tmp_path)
    grade(tmp_path)
    killed("finish_stage", lambda: choose(tmp_path))
    grown = choose(tmp_path)
    assert grown.counts["in"] == 16 and grown.stood == [first.output]


# ---- students ------------------------------------------------------------------------------------


def student_of(tmp_path: Path, name: str, inputs: dict[str, str], *, examples: int) -> StudentJob:
    """The job of a student that stands in a run as if it had been trained on so many examples."""
    run = RunFolder(tmp_path)
    folder = run.student(name).path
    section = {"name": name, "method": "sft"}
    if not folder.exists():
        store.open_stage(folder, Identity("students", 1, section, inputs))
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text("{}")
        (folder / "model" / "model.safetensors").write_bytes(name.encode())
        store.finish_stage(folder, counts={"in": examples, "out": examples}, seconds=0.0)
    return StudentJob(
        student=StudentSettings(name=name, base="tiny"),
        prompt=load_prompt("question"),
        problems=tmp_path / "out",
        examples=tmp_path / "e",
        folder=folder,
        settings=TrainSettings(),
        run=run,
    )


def grown_examples(tmp_path: Path, *outputs: str) -> None:
    """An examples folder that had these outputs before it grew."""
    folder = tmp_path / "e"
    for number, output in enumerate((*outputs, "now")):
        identity = Identity("examples", 1, {}, {"number": str(number)})
        store.open_stage(folder, identity, has_grown=lambda *_: True)
        store.finish_stage(folder, counts={"in": 1, "out": 1}, seconds=0.0, content=output)


def identity_of_student(name: str, inputs: dict[str, str], **keys: str) -> Identity:
    return Identity("students", 1, {"name": name, "method": "sft"} | keys, inputs)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_student_whose_examples_grew_is_kept_with_what_was_measured_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grown_examples(tmp_path, "few", "more")
    run = RunFolder(tmp_path)
    job = student_of(tmp_path, "sft", {"base": "b", "examples": "few"}, examples=12)
    other = student_of(tmp_path, "sft-2", {"base": "b", "examples": "few"}, examples=12)
    before = files_below(job.folder)
    for cell in ("sft", "sft@strict", "sft@step@5", "sft-2", "base"):
        (run.benchmark("gsm8k").path / cell / "traces").mkdir(parents=True)
    now = {"base": "b", "examples": "now"}
    keep_what_stands(job, identity_of_student("sft", now))
    assert not job.folder.exists() and files_below(run.student("sft-of-12").path) == before
    cells = {path.name for path in run.benchmark("gsm8k").path.iterdir()}
    kept = {"sft-of-12", "sft-of-12@strict", "sft-of-12@step@5"}
    assert cells == {*kept, "sft-2", "base"} and "kept as sft-of-12" in caplog.text
    # What is trained now may grow once more, with as many examples.
    again = student_of(tmp_path, "sft", {"base": "b", "examples": "more"}, examples=12)
    keep_what_stands(again, identity_of_student("sft", now))
    names = [student.path.name for student, _ in kept_students(run)]
    assert names == ["sft-of-12", "sft-of-12-2"] and other.folder.exists()
    manifests = read_manifests(run)
    outputs = outputs_of(run, manifests) | {"4-examples": "now"}
    kept_manifest = manifests["5-students/sft-of-12"]
    assert changed_inputs("5-students/sft-of-12", kept_manifest, outputs) == {}
    other_manifest = manifests["5-students/sft-2"]
    assert changed_inputs("5-students/sft-2", other_manifest, outputs) == {"examples": "4-examples"}


def test_a_student_that_chooses_among_examples_is_kept_when_they_grow(tmp_path: Path) -> None:
    grown_examples(tmp_path, "few")
    before = {"base": "b", "examples": "few", "chosen": "some"}
    job = student_of(tmp_path, "sft", before, examples=12)
    now = {"base": "b", "examples": "now", "chosen": "others"}
    keep_what_stands(job, identity_of_student("sft", now))
    assert not job.folder.exists()


def test_a_student_of_other_settings_or_examples_is_not_moved(tmp_path: Path) -> None:
    grown_examples(tmp_path, "few")
    job = student_of(tmp_path, "sft", {"base": "b", "examples": "few"}, examples=12)
    for inputs, keys in (
        ({"base": "b", "examples": "few"}, {}),
        ({"base": "c", "examples": "now"}, {}),
        ({"base": "b", "examples": "now"}, {"seed": "7"}),
    ):
        keep_what_stands(job, identity_of_student("sft", inputs, **keys))
        assert job.folder.exists()
    stranger = student_of(tmp_path, "other", {"base": "b", "examples": "of others"}, examples=3)
    keep_what_stands(stranger, identity_of_student("other", {"base": "b", "examples": "now"}))
    assert stranger.folder.exists()


def test_what_goes_on_from_a_kept_student_or_copies_its_steps_is_kept_too(tmp_path: Path) -> None:
    grown_examples(tmp_path, "few")
    run = RunFolder(tmp_path)
    job = student_of(tmp_path, "sft", {"base": "b", "examples": "few"}, examples=12)
    parent = store.require_complete(job.folder).fingerprint
    base = model_identity(str(run.student("sft").model))
    like = {"base": "b", "examples": "few", "parent": parent}
    control = student_of(tmp_path, "control", like, examples=12)
    further = student_of(tmp_path, "further", {"base": base, "examples": "few"}, examples=12)
    keep_what_stands(job, identity_of_student("sft", {"base": "b", "examples": "now"}))
    grown = {"base": "b", "examples": "now", "parent": "another"}
    keep_what_stands(control, identity_of_student("control", grown))
    keep_what_stands(further, identity_of_student("further", {"base": "x", "examples": "now"}))
    names = {student.path.name for student, _ in kept_students(run)}
    assert names == {"sft-of-12", "control-of-12", "further-of-12"}


def test_a_student_that_was_killed_while_it_was_moved_is_moved_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown_examples(tmp_path, "few")
    run = RunFolder(tmp_path)
    job = student_of(tmp_path, "sft", {"base": "b", "examples": "few"}, examples=12)
    for benchmark in ("aime", "gsm8k"):
        (run.benchmark(benchmark).path / "sft" / "traces").mkdir(parents=True)
    identity = identity_of_student("sft", {"base": "b", "examples": "now"})
    moved: list[str] = []

    def dies(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(source.name)
        source.rename(target)

    with monkeypatch.context() as during:
        during.setattr("reasondistill.runs.kept.os.rename", dies)
        with pytest.raises(KeyboardInterrupt):
            keep_what_stands(job, identity)
    keep_what_stands(job, identity)
    for benchmark in ("aime", "gsm8k"):
        assert [path.name for path in run.benchmark(benchmark).path.iterdir()] == ["sft-of-12"]
    assert [student.path.name for student in run.students()] == ["sft-of-12"]
