from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from traces_kit import (
    make_partial,
    opener,
    sample_slowly,
    settings,
    text_of,
    traces_in,
    write_problems,
)

from reasondistill.config import Cluster, SampledModel
from reasondistill.durations import short_duration
from reasondistill.errors import DriftError, Interrupted, StageError
from reasondistill.models.samplers import (
    InputFault,
    Rendered,
    Request,
    Running,
    Sampled,
    failed,
)
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Completion, Message, Problem, SetAside
from reasondistill.runs.session import Session
from reasondistill.runs.store import (
    StopSignal,
    count_lines,
    read_manifest,
    read_metrics,
    read_records,
    require_complete,
)
from reasondistill.runs.unfinished import Kept
from reasondistill.stages import traces as traces_module
from reasondistill.stages.traces import deal, run_traces, seed_of
from reasondistill.stages.traces.recorder import SamplingProgress

CLUSTER = Cluster()


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "1-problems")


def must_not_open(
    teacher: SampledModel, cluster: Cluster, problems: Sequence[Problem]
) -> ScriptedSampler:
    raise AssertionError("the sampler was opened although nothing is missing")


def test_every_problem_gets_n_traces_in_problem_order(problems: Path, tmp_path: Path) -> None:
    manifest = run_traces(settings(n=3), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    assert [trace.id for trace in traces_in(tmp_path / "t")] == [
        f"sums/train/{i}:{s}" for i in range(8) for s in range(3)
    ]
    assert manifest.status == "complete"
    assert manifest.counts == {"in": 8, "out": 24}
    assert manifest.figures["tokens"] == sum(
        trace.completion.tokens for trace in traces_in(tmp_path / "t")
    )
    assert manifest.figures["errors"] == 0


def test_each_sample_has_its_own_key_and_the_seed_that_follows_from_it(
    problems: Path, tmp_path: Path
) -> None:
    run_traces(settings(n=3), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    traces = traces_in(tmp_path / "t")
    assert len({trace.key for trace in traces}) == len({trace.seed for trace in traces}) == 24
    assert all(trace.seed == seed_of(trace.key) < 2**31 for trace in traces)


def test_another_temperature_or_model_is_another_key(problems: Path, tmp_path: Path) -> None:
    def keys(name: str, **values: object) -> set[str]:
        run_traces(settings(**values), problems, tmp_path / name, Serving(CLUSTER, opener()))
        return {trace.key for trace in traces_in(tmp_path / name)}

    first = keys("a")
    assert first == keys("b")
    assert not first & keys("c", temperature=0.1)
    assert not first & keys("d", teachers=({"model": "other", "sampler": "scripted"},))


def test_a_finished_stage_opens_no_sampler(problems: Path, tmp_path: Path) -> None:
    first = run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    again = run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, must_not_open))
    assert again == first


def test_raising_n_keeps_the_old_traces_byte_for_byte_and_draws_only_the_new(
    problems: Path, tmp_path: Path
) -> None:
    run_traces(settings(n=2), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    old = (tmp_path / "t" / "traces.jsonl").read_bytes().splitlines()
    asked: list[str] = []

    def script(request: Request) -> str:
        asked.append(request.id)
        return text_of(request)

    run_traces(settings(n=4), problems, tmp_path / "t", Serving(CLUSTER, opener(script)))
    new = (tmp_path / "t" / "traces.jsonl").read_bytes().splitlines()
    assert [line for i, line in enumerate(new) if i % 4 < 2] == old
    assert sorted(asked) == sorted(f"sums/train/{i}:{s}" for i in range(8) for s in (2, 3))
    run_traces(settings(n=4), problems, tmp_path / "at once", Serving(CLUSTER, opener()))
    assert new == (tmp_path / "at once" / "traces.jsonl").read_bytes().splitlines()


def test_a_torn_line_is_drawn_again(problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    run_traces(settings(n=2), problems, folder, Serving(CLUSTER, opener()))
    whole = (folder / "traces.jsonl").read_bytes()
    make_partial(folder)
    (folder / "traces.jsonl").write_bytes(whole[: len(whole) // 2])
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(b'{"time": 17')
    raised = settings(n=3)
    run_traces(raised, problems, folder, Serving(CLUSTER, opener()))
    run_traces(raised, problems, tmp_path / "whole", Serving(CLUSTER, opener()))
    assert (folder / "traces.jsonl").read_bytes() == (
        tmp_path / "whole" / "traces.jsonl"
    ).read_bytes()


def test_kill_9_loses_nothing_but_what_was_in_flight(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 100)
    folder = tmp_path / "t"
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "traces_kit.py"),
        str(problems),
        str(folder),
        "0.02",
    ]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while count_lines(folder / "traces.jsonl") < 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = {trace.id for trace in traces_in(folder)}
    assert 40 <= len(kept) < 400
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.status == "partial"
    drawn: list[str] = []

    def script(request: Request) -> str:
        drawn.append(request.id)
        return text_of(request)

    run_traces(settings(n=4), problems, folder, Serving(CLUSTER, opener(script)))
    assert len(drawn) == 400 - len(kept) and not kept & set(drawn)
    sample_slowly(problems, tmp_path / "uninterrupted", 0.0)
    assert (folder / "traces.jsonl").read_bytes() == (
        tmp_path / "uninterrupted" / "traces.jsonl"
    ).read_bytes()


@pytest.mark.parametrize("how", ["digit", "bit", "lines", "zeros", "list"])
def test_what_is_damaged_between_two_sessions_is_drawn_again(
    problems: Path, tmp_path: Path, how: str
) -> None:
    stop, folder, asked = StopSignal(), tmp_path / "t", list[str]()

    def stopping(request: Request) -> str:
        stop.requested = request.id == "sums/train/5:1" or stop.requested
        return text_of(request)

    with pytest.raises(Interrupted):
        run_traces(
            settings(), problems, folder, Serving(CLUSTER, opener(stopping)), Session(stop=stop)
        )
    path = folder / "traces.jsonl"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 12
    if how == "digit":
        path.write_bytes(content.replace(b'"seed":', b'"seed":1', 1))
    elif how == "bit":
        path.write_bytes(content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])
    elif how == "lines":
        path.write_bytes(b"".join([*lines[:4], *lines[7:]]))
    elif how == "zeros":
        path.write_bytes(b"".join(lines[:9]) + bytes(len(b"".join(lines[9:]))))
    else:
        (folder / "traces.jsonl.sums").unlink()

    def script(request: Request) -> str:
        asked.append(request.id)
        return text_of(request)

    run_traces(settings(), problems, folder, Serving(CLUSTER, opener(script)))
    run_traces(settings(), problems, tmp_path / "whole", Serving(CLUSTER, opener()))
    assert path.read_bytes() == (tmp_path / "whole" / "traces.jsonl").read_bytes()
    drawn_again = {"digit": 1, "bit": 1, "lines": 3, "zeros": 3, "list": 0}[how]
    assert len(asked) == 4 + drawn_again
    assert not list(folder.glob("*.sums"))


def test_a_stop_request_saves_what_finished_and_says_how_to_go_on(
    problems: Path, tmp_path: Path
) -> None:
    stop = StopSignal()

    def script(request: Request) -> str:
        stop.requested = request.id == "sums/train/2:1" or stop.requested
        return text_of(request)

    with pytest.raises(Interrupted, match="same command"):
        run_traces(
            settings(),
            problems,
            tmp_path / "t",
            Serving(CLUSTER, opener(script)),
            Session(stop=stop),
        )
    assert count_lines(tmp_path / "t" / "traces.jsonl") == 6
    run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    run_traces(settings(), problems, tmp_path / "whole", Serving(CLUSTER, opener()))
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == (
        tmp_path / "whole" / "traces.jsonl"
    ).read_bytes()


def test_two_teachers_share_the_problems_the_same_way_every_time(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 400)
    two = settings(
        teachers=(
            {"model": "big", "sampler": "scripted", "share": 1.0},
            {"model": "small", "sampler": "scripted", "share": 3.0},
        )
    )
    run_traces(two, problems, tmp_path / "t", Serving(CLUSTER, opener()))
    traces = traces_in(tmp_path / "t")
    by_problem = {trace.problem_id: trace.model for trace in traces}
    assert all(by_problem[trace.problem_id] == trace.model for trace in traces)
    assert 65 <= sum(model == "big" for model in by_problem.values()) <= 135
    assert by_problem == {p: ["big", "small"][deal(p, [1.0, 3.0])] for p in by_problem}


def test_another_temperature_in_the_same_folder_is_drift(problems: Path, tmp_path: Path) -> None:
    run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    with pytest.raises(DriftError, match=r"sampling\.temperature was 0\.7, is 1\.0"):
        run_traces(
            settings(temperature=1.0), problems, tmp_path / "t", Serving(CLUSTER, must_not_open)
        )
    other = settings(teachers=({"model": "other", "sampler": "scripted"},))
    with pytest.raises(DriftError, match=r'teachers\.1\.model was "fake", is "other"'):
        run_traces(other, problems, tmp_path / "t", Serving(CLUSTER, must_not_open))


class WordTokens(ScriptedSampler):
    """Tokenises: one token per word of the prompt."""

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        return Rendered(
            messages, token_ids=tuple(range(sum(len(m.content.split()) for m in messages)))
        )


def with_context(context: int) -> traces_module.OpenSampler:
    return lambda teacher, cluster, problems: WordTokens(text_of, max_model_len=context)


@pytest.mark.parametrize("phase", ["opening", "starting"])
def test_the_first_signal_ends_a_sampler_that_is_loaded(
    phase: str, problems: Path, tmp_path: Path
) -> None:
    def load() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            sum(range(10_000))
        raise AssertionError("the signal was not heard")

    class Slow(ScriptedSampler):
        def start(self) -> None:
            load()

    def open_slowly(*_: object) -> Slow:
        if phase == "opening":
            load()
        return Slow(text_of, model="fake")

    with StopSignal() as stop, pytest.raises(Interrupted, match="same command"):
        run_traces(
            settings(),
            problems,
            tmp_path / "t",
            Serving(CLUSTER, open_slowly),
            Session(stop=stop),
        )


def test_prompts_that_are_all_longer_than_the_context_stop_before_sampling(
    problems: Path, tmp_path: Path
) -> None:
    words = 3  # "What is 0+1?"
    with pytest.raises(
        StageError,
        match=r"8 of 8 problems .*: 8 × prompt longer than the context: … tokens, max_model_len "
        rf"{words}",
    ):
        run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, with_context(words)))
    assert not (tmp_path / "t" / "traces.jsonl").exists()
    run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, with_context(words + 1)))


def test_every_prompt_is_tokenised_once(problems: Path, tmp_path: Path) -> None:
    rendered: list[str] = []

    class Counting(WordTokens):
        def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
            rendered.append(messages[-1].content)
            return super().render(messages, plain=plain)

    def open_sampler(*_: object) -> Counting:
        return Counting(text_of, max_model_len=100)

    run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, open_sampler))
    assert sorted(rendered) == sorted(f"What is {i}+1?" for i in range(8))


def test_a_few_prompts_that_are_too_long_set_their_problems_aside(tmp_path: Path) -> None:
    long = {3: "What " * 9, 40: "Why " * 9}
    problems, folder = write_problems(tmp_path / "1-problems", 44, questions=long), tmp_path / "t"
    manifest = run_traces(settings(), problems, folder, Serving(CLUSTER, with_context(5)))
    assert manifest.counts == {"in": 44, "out": 88, "refused": 4}
    assert manifest.figures["causes"] == {
        "prompt longer than the context: … tokens, max_model_len 5": 4
    }
    set_aside = list(read_records(folder / "set_aside.jsonl", SetAside))
    assert [(row.id, row.origin.row) for row in set_aside] == [
        ("sums/train/3", 3),
        ("sums/train/40", 40),
    ]
    refused = [trace.id for trace in traces_in(folder) if trace.completion.is_refused]
    assert refused == ["sums/train/3:0", "sums/train/3:1", "sums/train/40:0", "sums/train/40:1"]
    assert run_traces(settings(), problems, folder, Serving(CLUSTER, must_not_open)) == manifest
    raised = run_traces(settings(n=3), problems, folder, Serving(CLUSTER, with_context(10)))
    assert raised.counts == {"in": 44, "out": 132}, "a longer context takes them in"
    assert not (folder / "set_aside.jsonl").exists()


def wait_for_line(path: Path, text: str) -> bool:
    """Whether a line with this text comes onto disk within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text():
            return True
        time.sleep(0.05)
    return False


def test_a_refused_problem_is_on_disk_before_the_next_sample_finishes(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "p", 3, questions={1: "What " * 9})
    folder = tmp_path / "t"
    seen: list[bool] = []

    def script(request: Request) -> str:
        if request.id == "sums/train/2:0":
            seen.append(wait_for_line(folder / "traces.jsonl", '"sums/train/1:0"'))
        return text_of(request)

    def open_sampler(*_: object) -> WordTokens:
        return WordTokens(script, max_model_len=5)

    run_traces(settings(n=1), problems, folder, Serving(CLUSTER, open_sampler))
    assert seen == [True]
    assert [trace.completion.finish for trace in traces_in(folder)] == ["stop", "error", "stop"]


def test_what_is_in_flight_is_let_go_of_when_a_stage_stops(tmp_path: Path) -> None:
    problems, folder = write_problems(tmp_path / "p", 8), tmp_path / "t"

    class Lossy(ScriptedSampler):
        """Answers nothing, and cannot let go of what is in flight."""

        def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
            try:
                for request in requests:
                    yield Sampled(request, failed("the quota is used up"))
            finally:
                raise StageError("the server does not let go")

    def open_sampler(*_: object) -> Lossy:
        return Lossy(text_of)

    with pytest.raises(StageError, match="the server does not let go"):
        run_traces(settings(), problems, folder, Serving(CLUSTER, open_sampler))


def test_problems_that_the_server_filters_are_set_aside_and_not_asked_again(tmp_path: Path) -> None:
    problems, folder = write_problems(tmp_path / "1-problems", 21), tmp_path / "t"

    def filters(request: Request) -> str | Completion:
        return (
            failed("content filter", fault="input")
            if request.id.startswith("sums/train/2:")
            else text_of(request)
        )

    manifest = run_traces(settings(), problems, folder, Serving(CLUSTER, opener(filters)))
    assert manifest.counts == {"in": 21, "out": 42, "refused": 2}
    assert run_traces(settings(), problems, folder, Serving(CLUSTER, must_not_open)) == manifest


def test_a_single_problem_that_is_filtered_is_a_finished_stage_too(tmp_path: Path) -> None:
    problems = write_problems(tmp_path / "1-problems", 1)
    filters = opener(lambda request: failed("content filter", fault="input"))
    manifest = run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, filters))
    assert manifest.counts == {"in": 1, "out": 2, "refused": 2}


def test_many_problems_that_are_filtered_stop_the_stage(tmp_path: Path) -> None:
    def filters(request: Request) -> Completion | str:
        return (
            failed("content filter", fault="input") if request.id[-3] in "05" else text_of(request)
        )

    with pytest.raises(
        StageError, match=r"5 of 50 problems cannot be asked, more than 5 %: 5 × content filter"
    ):
        run_traces(
            settings(),
            write_problems(tmp_path / "p", 50),
            tmp_path / "t",
            Serving(CLUSTER, opener(filters)),
        )


def test_a_stage_that_stopped_at_refused_problems_goes_on_once_the_server_is_mended(
    tmp_path: Path,
) -> None:
    problems, folder = write_problems(tmp_path / "1-problems", 30), tmp_path / "t"
    refuses = opener(lambda request: failed("input too long", fault="input"))
    with pytest.raises(StageError, match="problems cannot be asked"):
        run_traces(settings(), problems, folder, Serving(CLUSTER, refuses))
    told = read_manifest(folder)
    assert told is not None and "problems cannot be asked" in told.figures["stopped"]
    assert run_traces(settings(), problems, folder, Serving(CLUSTER, opener())).counts == {
        "in": 30,
        "out": 60,
    }


def test_losses_that_were_allowed_stay_allowed_when_the_service_is_gone(
    problems: Path, tmp_path: Path
) -> None:
    def lost(request: Request) -> str | Completion:
        return failed("server said 500") if request.id == "sums/train/2:0" else text_of(request)

    lenient = settings(failures_allowed=0.1)
    first = run_traces(lenient, problems, tmp_path / "t", Serving(CLUSTER, opener(lost)))

    def unpaid(request: Request) -> str:
        raise StageError("no quota left")

    again = run_traces(lenient, problems, tmp_path / "t", Serving(CLUSTER, opener(unpaid)))
    assert (again.status, again.counts, again.output) == ("complete", first.counts, first.output)


class PickyTemplate(ScriptedSampler):
    """Refuses a question as a chat template does."""

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        if "7+1" in messages[-1].content:
            raise InputFault("template_refuses", "the chat template refuses this prompt: no sevens")
        return super().render(messages, plain=plain)


def test_a_row_that_the_template_refuses_is_set_aside_by_name(
    problems: Path, tmp_path: Path
) -> None:
    manifest = run_traces(
        settings(), problems, tmp_path / "t", Serving(CLUSTER, lambda *_: PickyTemplate(text_of))
    )
    assert manifest.counts == {"in": 8, "out": 16, "refused": 2}
    (row,) = read_records(tmp_path / "t" / "set_aside.jsonl", SetAside)
    assert (row.id, row.detail) == (
        "sums/train/7",
        "the chat template refuses this prompt: no sevens",
    )


def test_more_lost_samples_than_allowed_end_the_stage_with_causes_and_nothing_is_written_after(
    tmp_path: Path,
) -> None:
    problems, folder = write_problems(tmp_path / "1-problems", 150), tmp_path / "t"
    asked: list[str] = []

    def tired(request: Request) -> str | Completion:
        asked.append(request.id)
        return (
            failed(f"HTTP 503: overloaded, request {len(asked) + 10_000}")
            if len(asked) > 100
            else text_of(request)
        )

    told = (
        r"4 of 300 samples were lost, failures_allowed = 0\.01 allows 3: 4 × HTTP 503: "
        r"overloaded, request …"
    )
    with pytest.raises(StageError, match=told):
        run_traces(settings(), problems, folder, Serving(CLUSTER, opener(tired)))
    assert len(asked) == 104
    kept = (folder / "traces.jsonl").read_bytes().splitlines()
    assert len(kept) == 103
    with pytest.raises(StageError, match="not finished"):
        require_complete(folder)
    manifest = run_traces(settings(), problems, folder, Serving(CLUSTER, opener()))
    assert manifest.counts == {"in": 150, "out": 300}
    assert (folder / "traces.jsonl").read_bytes().splitlines()[:100] == kept[:100]
    run_traces(settings(), problems, tmp_path / "whole", Serving(CLUSTER, opener()))
    assert (folder / "traces.jsonl").read_bytes() == (
        tmp_path / "whole" / "traces.jsonl"
    ).read_bytes()


def test_a_finished_folder_that_lost_more_than_is_allowed_is_not_taken_for_done(
    problems: Path, tmp_path: Path
) -> None:
    def broken_for_2(request: Request) -> str | Completion:
        return (
            failed("server said 500")
            if request.id.startswith("sums/train/2:")
            else text_of(request)
        )

    run_traces(
        settings(failures_allowed=0.5),
        problems,
        tmp_path / "t",
        Serving(CLUSTER, opener(broken_for_2)),
    )
    with pytest.raises(StageError, match="2 of 16 samples were lost.*5-students"):
        run_traces(
            settings(),
            problems,
            tmp_path / "t",
            Serving(CLUSTER, must_not_open),
            Session(heal=False),
        )
    assert run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener())).counts == {
        "in": 8,
        "out": 16,
    }


def test_lost_samples_are_counted_and_drawn_again_by_the_next_run(
    problems: Path, tmp_path: Path
) -> None:
    def broken_for_2(request: Request) -> str | Completion:
        return (
            failed("server said 500")
            if request.id.startswith("sums/train/2:")
            else text_of(request)
        )

    folder, lenient = tmp_path / "t", settings(failures_allowed=0.2)
    first = run_traces(lenient, problems, folder, Serving(CLUSTER, opener(broken_for_2)))
    assert (first.counts, first.figures["errors"]) == ({"in": 8, "out": 16, "failed": 2}, 2)
    assert first.figures["causes"] == {"server said 500": 2}
    again = run_traces(lenient, problems, folder, Serving(CLUSTER, opener(broken_for_2)))
    assert again.output == first.output, "a failure that stays makes nothing stale"
    left = run_traces(lenient, problems, folder, Serving(CLUSTER, opener()), Session(heal=False))
    assert left.counts["failed"] == 2
    healed = run_traces(settings(), problems, folder, Serving(CLUSTER, opener()))
    assert healed.counts == {"in": 8, "out": 16}
    assert healed.output != first.output, "what was made from the failed samples must become stale"
    whole = run_traces(settings(), problems, tmp_path / "whole", Serving(CLUSTER, opener()))
    assert healed.fingerprint == whole.fingerprint
    assert (folder / "traces.jsonl").read_bytes() == (
        tmp_path / "whole" / "traces.jsonl"
    ).read_bytes()


def test_nothing_but_failures_is_an_error_that_shows_one(problems: Path, tmp_path: Path) -> None:
    def broken(request: Request) -> Completion:
        return failed("connection refused")

    with pytest.raises(StageError, match="all 16 samples failed.*connection refused"):
        run_traces(
            settings(failures_allowed=1), problems, tmp_path / "t", Serving(CLUSTER, opener(broken))
        )
    manifest = run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    assert manifest.counts == {"in": 8, "out": 16}


def test_a_teacher_that_only_fails_is_given_up_early(tmp_path: Path) -> None:
    asked: list[str] = []

    def broken(request: Request) -> Completion:
        asked.append(request.id)
        return failed("out of service")

    problems = write_problems(tmp_path / "1-problems", 1000)
    with pytest.raises(StageError, match=r"all \d+ samples failed.*out of service"):
        run_traces(
            settings(failures_allowed=1), problems, tmp_path / "t", Serving(CLUSTER, opener(broken))
        )
    assert len(asked) == 32


def test_a_trace_of_a_problem_that_is_gone_is_a_clear_error(problems: Path, tmp_path: Path) -> None:
    run_traces(settings(n=1), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    make_partial(tmp_path / "t")
    with open(tmp_path / "t" / "traces.jsonl", "a", encoding="utf-8") as file:
        file.write(
            traces_in(tmp_path / "t")[0].model_copy(update={"id": "gone/0:0"}).to_json() + "\n"
        )
    with pytest.raises(
        StageError, match="holds a trace of gone/0, which is not among the problems"
    ):
        run_traces(settings(n=2), problems, tmp_path / "t", Serving(CLUSTER, opener()))


def test_limit_takes_the_first_problems_and_grows(problems: Path, tmp_path: Path) -> None:
    manifest = run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener()), limit=3)
    assert manifest.counts == {"in": 3, "out": 6}
    manifest = run_traces(settings(), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    assert manifest.counts == {"in": 8, "out": 16}
    run_traces(settings(), problems, tmp_path / "whole", Serving(CLUSTER, opener()))
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == (
        tmp_path / "whole" / "traces.jsonl"
    ).read_bytes()


def test_missing_or_empty_problems_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="missing. Run that stage first"):
        run_traces(settings(), tmp_path / "none", tmp_path / "t", Serving(CLUSTER, must_not_open))
    with pytest.raises(StageError, match="holds no problems"):
        run_traces(
            settings(),
            write_problems(tmp_path / "p", 0),
            tmp_path / "t",
            Serving(CLUSTER, must_not_open),
        )


def test_progress_says_where_it_is_and_leaves_metrics(
    problems: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="reasondistill"):
        run_traces(settings(max_tokens=1), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    assert "16/16" in caplog.text and "100.0 % truncated" in caplog.text
    last = read_metrics(tmp_path / "t")[-1]
    assert (last["done"], last["total"], last["tokens"], last["truncated"]) == (16, 16, 16, 16)
    manifest = read_manifest(tmp_path / "t")
    assert manifest is not None and manifest.figures["truncated"] == 1.0


def test_progress_counts_tokens_that_are_still_being_written_and_says_what_it_waits_for(
    tmp_path: Path,
) -> None:
    running = Running(requests=48, tokens=3_120)
    progress = SamplingProgress(
        tmp_path, model="m", samples=96, done=0, total=96, load_seconds=0.0, running=running
    )
    assert progress.line(100.0) == "0/96 · 31 tok/s · 48 running with 3,120 tokens so far"
    running.tokens, running.waits_for = 0, "HTTP 429: waits 35 s"
    assert progress.line(100.0) == "0/96 · 0 tok/s · 48 running · HTTP 429: waits 35 s"


def test_the_first_of_many_that_ends_does_not_make_it_days(problems: Path, tmp_path: Path) -> None:
    run_traces(settings(n=1, max_tokens=8), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    first = traces_in(tmp_path / "t")[0]
    of_100 = first.completion.model_copy(update={"tokens": 100})
    running = Running(requests=255, tokens=23_900)
    progress = SamplingProgress(
        tmp_path, model="m", samples=1001, done=0, total=1001, load_seconds=0.0, running=running
    )
    progress.add([first.model_copy(update={"completion": of_100})])
    # 24,000 tokens in 1,000 s, and 100,000 − 23,900 to come; by samples alone 278 hours.
    assert progress.line(1000.0).endswith(" · 52m51s left")


def test_samples_that_go_on_do_not_make_it_minutes(problems: Path, tmp_path: Path) -> None:
    run_traces(settings(n=1, max_tokens=8), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    first = traces_in(tmp_path / "t")[0]
    going_on = first.completion.model_copy(update={"tokens": 100, "continued_at": (90,)})
    running = Running(requests=255, tokens=23_990)
    progress = SamplingProgress(
        tmp_path, model="m", samples=1001, done=0, total=1001, load_seconds=0.0, running=running
    )
    progress.add([first.model_copy(update={"completion": going_on})])
    progress.kept, progress.drawn_of_kept = Kept(samples=255, tokens=44_000), 14_000
    # 24,000 tokens in 1,000 s; of 100,000 there are 30,000 of earlier sessions and 23,990.
    assert progress.line(1000.0).endswith(" · 31m57s left")


def test_last_samples_that_are_longer_than_the_others_have_no_time_left(
    problems: Path, tmp_path: Path
) -> None:
    run_traces(settings(n=1, max_tokens=8), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    first = traces_in(tmp_path / "t")[0]
    short = first.completion.model_copy(update={"tokens": 10})
    running = Running(requests=1, tokens=300)
    progress = SamplingProgress(
        tmp_path, model="m", samples=2, done=0, total=2, load_seconds=0.0, running=running
    )
    progress.add([first.model_copy(update={"completion": short})])
    assert progress.line(100.0).endswith(" · 1 running with 300 tokens so far")


def test_the_references_themselves_can_be_the_teacher(problems: Path, tmp_path: Path) -> None:
    run_traces(
        settings(n=1, teachers=({"model": "reference", "sampler": "reference"},)),
        problems,
        tmp_path / "t",
        Serving(CLUSTER),
    )
    completion = traces_in(tmp_path / "t")[3].completion
    assert completion.reasoning == "3 and one more make 4."
    assert completion.answer_text == "\\boxed{4}"


def test_a_script_file_is_a_teacher_for_dry_runs(problems: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text(
        '{"problem_id": "sums/train/0", "text": "one"}\n{"question": "What is 1+1?", '
        '"text": "two"}\n',
        encoding="utf-8",
    )
    from_file = settings(n=1, teachers=({"model": str(script), "sampler": "scripted"},))
    run_traces(from_file, problems, tmp_path / "t", Serving(CLUSTER), limit=2)
    first, second = traces_in(tmp_path / "t")
    assert (first.completion.answer_text, second.completion.answer_text) == ("one", "two")
    assert first.model.startswith("script@")


def test_durations_are_short() -> None:
    assert [short_duration(s) for s in (41.2, 725, 4320)] == ["41s", "12m05s", "1h12m"]


def test_problems_that_the_prompt_shows_with_their_answer_are_named_and_counted(
    problems: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = tmp_path / "shown.toml"
    prompt.write_text(
        'about = "x"\nuser = "{question}"\n'
        '[[few_shot]]\nquestion = " WHAT is  2+1? "\nanswer = "3"\n'
        '[[few_shot]]\nquestion = "What is 90+1?"\nanswer = "91"\n'
    )
    run_traces(settings(prompt=str(prompt)), problems, tmp_path / "t", Serving(CLUSTER, opener()))
    assert "prompt shown: 1 of 8 problems are also worked examples of it" in caplog.text
    assert "sums/train/2." in caplog.text
