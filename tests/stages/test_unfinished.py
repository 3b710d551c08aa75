"""Stopping in the middle of samples, and going on there."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from traces_kit import InSteps, opener, settings, traces_in, write_problems

from reasondistill.config import Cluster
from reasondistill.errors import Interrupted
from reasondistill.models.samplers import Rendered, Request, Sampled, SamplerBase, SamplerKind
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.records import Begun, Completion, Message, Trace
from reasondistill.runs.checking import check_run, open_tree
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.missing import read_missing
from reasondistill.runs.repairing import repair_run
from reasondistill.runs.session import Session
from reasondistill.runs.store import GRACE, StopSignal, count_lines, read_metrics, require_complete
from reasondistill.runs.unfinished import UnfinishedFile, read_begun
from reasondistill.runs.work_sharing import Share
from reasondistill.secrets import look_again
from reasondistill.stages.traces import run_traces

CLUSTER = Cluster()
FILE = "unfinished.jsonl"
WHOLE: Any = {"continue": False}
PARROTS: Any = {"teachers": ({"model": "fake", "sampler": "test_unfinished:PARROT"},)}


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "1-problems")


class Steps(ScriptedSampler):
    """Four samples at once, word by word; after so many words somebody asks to stop. Where it
    `keeps_at` a number of words before that, it keeps nothing at its end, like a killed one.
    """

    def __init__(self, steps: int, stop: StopSignal | None = None, *, keeps_at: int = -1) -> None:
        super().__init__(long_text, model="fake", at_once=4)
        self.asked: list[Request] = []
        self.told = ""
        self.left, self._stop, self._keeps_at = steps, stop, keeps_at

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        def seen() -> Iterator[Request]:
            for request in requests:
                self.asked.append(request)
                yield request

        return super().sample(seen())

    def keep_unfinished(self, *, now: bool) -> None:
        self.left -= 1
        if self.left == 0 and self._stop is not None:
            self._stop.requested = True
        if self._keeps_at < 0 or self.left == self._keeps_at:
            self.keep_s = 0.0 if self._keeps_at > 0 else 1e9
            super().keep_unfinished(now=now)


def long_text(request: Request) -> str:
    """Ten to thirteen words, by the request's seed."""
    words = " ".join(str(number) for number in range(7 + request.seed % 4))
    return f"<think>{words}</think> so \\boxed{{{request.seed % 7}}} {request.seed}"


def run(
    problems: Path,
    folder: Path,
    sampler: ScriptedSampler | None = None,
    stop: StopSignal | None = None,
    **values: object,
) -> None:
    sampler = sampler or Steps(-1)
    run_traces(
        settings(**values),
        problems,
        folder,
        Serving(CLUSTER, lambda *_: sampler),
        Session(stop=stop),
    )


def stopped(problems: Path, folder: Path, steps: int = 18, **values: object) -> Steps:
    """A session that is asked to stop after so many words."""
    stop = StopSignal()
    sampler = Steps(steps, stop)
    with pytest.raises(Interrupted) as caught:
        run(problems, folder, sampler, stop, **values)
    sampler.told = str(caught.value)
    return sampler


def bytes_of(folder: Path) -> bytes:
    return (folder / "traces.jsonl").read_bytes()


def without_places(trace: Trace) -> Trace:
    whole = trace.completion.model_copy(update={"continued_at": ()})
    return trace.model_copy(update={"completion": whole})


def test_what_is_unfinished_at_a_stop_is_kept_and_gone_on_with_in_its_middle(
    problems: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "t"
    with caplog.at_level(logging.INFO, logger="reasondistill"):
        first = stopped(problems, folder)
    begun = read_begun([folder])
    assert len(begun) == 4
    tokens = sum(len(one.token_ids) for one in begun.values())
    words = f"4 unfinished samples, {tokens} tokens"
    assert f"and so are {words}: they are gone on with" in first.told
    assert f" · {words}, kept" in caplog.text
    done = {trace.id for trace in traces_in(folder)}
    assert not done & begun.keys()
    assert read_missing(folder).words().endswith(f"not drawn yet ({words}, kept)")
    second = Steps(-1)
    run(problems, folder, second)
    given = {request.id: request.begun for request in second.asked if request.begun is not None}
    assert given == begun
    traces = {trace.id: trace for trace in traces_in(folder)}
    assert len(traces) == len(traces_in(folder)) == 16
    for name, trace in traces.items():
        places = (len(begun[name].token_ids),) if name in begun else ()
        assert trace.completion.continued_at == places
    run(problems, tmp_path / "whole")
    assert [without_places(trace) for trace in traces_in(folder)] == traces_in(tmp_path / "whole")
    assert require_complete(folder).figures["continued"] == 4
    assert not list(folder.glob(f"*{FILE}*"))
    last = [row for row in read_metrics(folder) if row["done"] == len(done)][-1]
    all_tokens = sum(trace.completion.tokens for trace in traces.values())
    assert last["tokens"] + read_metrics(folder)[-1]["tokens"] == all_tokens


def test_a_record_that_was_not_continued_is_byte_for_byte_what_it_was(
    problems: Path, tmp_path: Path
) -> None:
    run(problems, tmp_path / "t")
    assert b"continued_at" not in bytes_of(tmp_path / "t")
    run(problems, tmp_path / "at once", ScriptedSampler(long_text, model="fake"))
    assert bytes_of(tmp_path / "t") == bytes_of(tmp_path / "at once")


def test_a_sample_may_be_continued_again_and_again(problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    for _ in range(4):
        stopped(problems, folder, steps=3)
    (name, *_) = (begun.id for begun in read_begun([folder]).values() if begun.continued_at)
    run(problems, folder)
    (trace,) = (trace for trace in traces_in(folder) if trace.id == name)
    places = trace.completion.continued_at
    assert len(places) >= 2 and list(places) == sorted(set(places))
    assert places[-1] < trace.completion.tokens
    run(problems, tmp_path / "whole")
    assert [without_places(one) for one in traces_in(folder)] == traces_in(tmp_path / "whole")


def test_a_schedulers_signal_ends_at_once_what_can_be_gone_on_with(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is begun of others may end in the time that is left."""
    monkeypatch.setenv(GRACE, "1000")

    class Announced(Steps):
        def keep_unfinished(self, *, now: bool) -> None:
            if self.left == 3:
                os.kill(os.getpid(), signal.SIGUSR1)
            super().keep_unfinished(now=now)

    for name, values in (("t", {}), ("p", PARROTS)):
        with StopSignal() as stop, pytest.raises(Interrupted):
            run(problems, tmp_path / name, Announced(6), stop, **values)
    assert len(read_begun([tmp_path / "t"])) == 4 and traces_in(tmp_path / "t") == []
    assert len(traces_in(tmp_path / "p")) >= 4


def test_with_continue_false_the_same_samples_come_out_however_often_it_was_stopped(
    problems: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    for steps in (18, 18, 7):
        stopped(problems, folder, steps, **WHOLE)
        assert not (folder / FILE).exists()
    run(problems, folder, **WHOLE)
    run(problems, tmp_path / "whole")
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_continue_false_forgets_what_was_begun_and_says_so(
    problems: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "t"
    stopped(problems, folder)
    with caplog.at_level(logging.INFO, logger="reasondistill"):
        stopped(problems, folder, 2, **WHOLE)
    assert "continue = false: 4 unfinished samples" in caplog.text
    assert not list(folder.glob(f"{FILE}*"))
    run(problems, folder)
    run(problems, tmp_path / "whole")
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_kill_9_goes_on_from_what_was_kept_last(tmp_path: Path) -> None:
    problems, folder = write_problems(tmp_path / "1-problems", 100), tmp_path / "t"
    program = str(Path(__file__).parents[1] / "traces_kit.py")
    process = subprocess.Popen(
        [sys.executable, program, str(problems), str(folder), "0.01", "in-steps"]
    )
    deadline = time.monotonic() + 60
    while count_lines(folder / "traces.jsonl") < 24 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    begun = read_begun([folder])
    assert begun.keys() and len({one.key for one in begun.values()}) == len(begun)
    asked: list[Request] = []

    class Asked(InSteps):
        def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
            some = list(requests)
            asked.extend(some)
            return super().sample(some)

    run_traces(settings(n=4), problems, folder, Serving(CLUSTER, lambda *_: Asked(0.0)))
    given = {request.id: request.begun for request in asked if request.begun is not None}
    assert given == begun
    traces = traces_in(folder)
    assert len({trace.id for trace in traces}) == len(traces) == 400
    assert begun.keys() == {trace.id for trace in traces if trace.completion.continued_at}


def test_what_finished_behind_what_was_kept_goes_back_to_it(problems: Path, tmp_path: Path) -> None:
    """After a kill. To keep the quick ones would favour them."""
    folder = tmp_path / "t"
    stop = StopSignal()
    dying = Steps(19, stop, keeps_at=10)
    with pytest.raises(Interrupted):
        run(problems, folder, dying, stop)
    begun = read_begun([folder])
    before = {trace.id for trace in traces_in(folder)}
    assert len(begun) == 4 and begun.keys() & before, "some have finished since"
    second = Steps(-1)
    run(problems, folder, second)
    given = {request.id: request.begun for request in second.asked if request.begun is not None}
    assert given == begun
    traces = traces_in(folder)
    assert len({trace.id for trace in traces}) == len(traces) == 16
    continued = {trace.id for trace in traces if trace.completion.continued_at}
    assert continued == begun.keys()


class Coins(SamplerBase):
    """Tosses a coin at each step and ends a sample with the first head: the lengths of samples have
    a mean of 4. A killed one keeps nothing at its end.
    """

    model = "coins"

    def __init__(self, stop: StopSignal, steps: int, *, dies: bool) -> None:
        super().__init__()
        self._stop, self._steps, self._dies = stop, steps, dies
        self.keep_s = 1e9
        self._flights: dict[str, tuple[Request, random.Random, list[int]]] = {}

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        return Rendered(messages)

    def sample(self, requests: Iterable[Request]) -> Iterator[Sampled]:
        requests = iter(requests)
        self._flights = {}
        try:
            while not self.should_stop():
                while len(self._flights) < 128 and (request := next(requests, None)):
                    begun = list(request.begun.token_ids) if request.begun else []
                    chance = random.Random(request.segment_seed)
                    self._flights[request.id] = (request, chance, begun)
                if not self._flights:
                    return
                for request, chance, tosses in list(self._flights.values()):
                    tosses.append(chance.randrange(4))
                    if tosses[-1] == 0:
                        del self._flights[request.id]
                        yield Sampled(request, tossed(request, tosses))
                self._steps -= 1
                self.keep_s = 0.0 if self._steps == 2 else 1e9
                self.keep_unfinished(now=False)
                self._stop.requested = self._steps == 0
        finally:
            if not self._dies:
                self.keep_unfinished(now=True)

    def unfinished(self) -> list[Begun]:
        begun = (r.begun_so_far(tosses, "", 0.0) for r, _, tosses in self._flights.values())
        return [one for one in begun if one is not None]


def tossed(request: Request, tosses: Sequence[int]) -> Completion:
    return Completion(
        reasoning=None,
        answer_text=" ".join(map(str, tosses)),
        think="none",
        finish="stop",
        prompt_tokens=1,
        tokens=len(tosses),
        seconds=0.0,
        continued_at=request.continued_at,
    )


@pytest.mark.parametrize("dies", [False, True])
def test_stops_and_kills_make_no_length_more_frequent(tmp_path: Path, dies: bool) -> None:
    """1,600 samples, stopped or killed every sixth step, two steps after what is kept."""
    problems, folder = write_problems(tmp_path / "p", 200), tmp_path / "t"
    is_done = False
    while not is_done:
        stop = StopSignal()
        coins = Coins(stop, 6, dies=dies)
        serving = Serving(CLUSTER, lambda *_, coins=coins: coins)
        try:
            run_traces(settings(n=8), problems, folder, serving, Session(stop=stop))
            is_done = True
        except Interrupted:
            pass
    traces = traces_in(folder)
    lengths = [trace.completion.tokens for trace in traces]
    assert len({trace.id for trace in traces}) == len(traces) == 1600
    assert sum(bool(trace.completion.continued_at) for trace in traces) > 300
    # The deviation of a length is √12, that of the mean of 1,600 of them 0.087.
    assert abs(fmean(lengths) - 4) < 0.22


def test_what_is_begun_of_another_sample_is_not_used(problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    stopped(problems, folder)
    strange = [
        one.model_copy(update={"key": "0" * len(one.key)}) for one in read_begun([folder]).values()
    ]
    UnfinishedFile(folder).write(strange)
    second = Steps(-1)
    run(problems, folder, second)
    assert all(request.begun is None for request in second.asked)
    run(problems, tmp_path / "whole")
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("how", ["line", "list", "tail", "file"])
def test_of_a_damaged_file_the_sound_lines_are_used_and_the_others_told(
    problems: Path, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "t"
    stopped(problems, folder)
    path, sums = folder / FILE, folder / f"{FILE}.sums"
    content = path.read_bytes()
    names = list(read_begun([folder]))
    lost = {"line": names[1:2], "list": names, "tail": names[3:], "file": names}[how]
    if how == "line":
        lines = content.splitlines(keepends=True)
        lines[1] = lines[1].replace(b'"token_ids":[0', b'"token_ids":[9')
        path.write_bytes(b"".join(lines))
    elif how == "list":
        sums.write_bytes(b"x" * len(sums.read_bytes()))
    elif how == "tail":
        path.write_bytes(content[:-20])
    else:
        path.unlink()
    second = Steps(-1)
    with caplog.at_level(logging.WARNING, logger="reasondistill"):
        run(problems, folder, second)
    given = {request.id for request in second.asked if request.begun is not None}
    assert given == set(names) - set(lost)
    assert f"{path}: damaged since it was written" in caplog.text
    assert len(traces_in(folder)) == 16


def test_check_names_a_list_that_is_lost_and_repair_mends_it(tmp_path: Path) -> None:
    """Of what is only begun nothing is lost that takes asking for."""
    folder = tmp_path / "run"
    problems = write_problems(folder / "1-problems")
    stopped(problems, folder / "2-traces")
    sums = folder / "2-traces" / f"{FILE}.sums"
    sums.write_bytes(b"x" * 40)

    def faults() -> list[str]:
        checked = check_run(open_tree(str(folder)))
        return [fault.path for one in checked for fault in one.faults]

    assert faults() == [f"2-traces/{FILE}.sums"]
    (repair,) = repair_run(RunFolder(folder))
    assert repair.is_mended and faults() == []
    again = Steps(-1)
    run(problems, folder / "2-traces", again)
    assert len(traces_in(folder / "2-traces")) == 16
    assert not any(request.begun for request in again.asked)


def test_a_text_with_a_secret_of_the_environment_is_not_kept(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "t"
    key = "tok-93af51c07be2"
    monkeypatch.setenv("HF_TOKEN", key)
    look_again()

    class Leaks(Steps):
        def unfinished(self) -> list[Begun]:
            first, *others = super().unfinished()
            return [first.model_copy(update={"text": f"it is {key}."}), *others]

    stop = StopSignal()
    try:
        with pytest.raises(Interrupted, match="3 unfinished samples"):
            run(problems, folder, Leaks(18, stop), stop)
    finally:
        monkeypatch.undo()
        look_again()
    assert len(read_begun([folder])) == 3


def test_workers_keep_and_go_on_with_what_any_of_them_has_begun(
    problems: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "t"

    def share(role: str, number: int = 0, *, steps: int = -1) -> Steps:
        stop = StopSignal()
        sampler = Steps(steps, stop)
        session = Session(share=Share(role, number, 2), stop=stop)  # type: ignore[arg-type]
        run_traces(settings(), problems, folder, Serving(CLUSTER, lambda *_: sampler), session)
        return sampler

    share("open")
    with pytest.raises(Interrupted, match="unfinished samples"):
        share("work", 0, steps=6)
    parts = list(folder.glob(f"parts/*/w0-*/{FILE}"))
    assert len(parts) == 1
    begun = read_begun([parts[0].parent])
    assert begun
    again = share("work", 0, steps=-1)
    given = {request.id for request in again.asked if request.begun is not None}
    assert given == begun.keys()
    share("work", 1)
    share("close")
    traces = traces_in(folder)
    continued = {trace.id for trace in traces if trace.completion.continued_at}
    assert continued == begun.keys() and len(traces) == 16
    assert not list(folder.glob(f"*{FILE}*"))


def test_a_worker_that_was_killed_goes_back_to_what_it_kept(problems: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"

    def share(role: str, sampler: Steps, stop: StopSignal | None = None) -> None:
        session = Session(share=Share(role, 0, 1), stop=stop)  # type: ignore[arg-type]
        run_traces(settings(), problems, folder, Serving(CLUSTER, lambda *_: sampler), session)

    share("open", Steps(-1))
    stop = StopSignal()
    with pytest.raises(Interrupted):
        share("work", Steps(19, stop, keeps_at=10), stop)
    (part,) = folder.glob("parts/*/w0-*")
    begun = read_begun([part])
    assert begun.keys() & {trace.id for trace in traces_in(part)}, "some have finished since"
    again = Steps(-1)
    share("work", again)
    share("close", Steps(-1))
    assert {request.id for request in again.asked if request.begun} == begun.keys()
    traces = traces_in(folder)
    assert len({trace.id for trace in traces}) == len(traces) == 16
    assert begun.keys() == {trace.id for trace in traces if trace.completion.continued_at}


def test_what_workers_have_begun_is_gone_on_with_by_another_attempt(
    problems: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    stop = StopSignal()
    run_traces(
        settings(),
        problems,
        folder,
        Serving(CLUSTER, opener()),
        Session(share=Share("open", 0, 2)),
    )
    with pytest.raises(Interrupted):
        run_traces(
            settings(),
            problems,
            folder,
            Serving(CLUSTER, lambda *_: Steps(6, stop)),
            Session(share=Share("work", 1, 2), stop=stop),
        )
    alone = Steps(-1)
    run(problems, folder, alone)
    given = {request.id for request in alone.asked if request.begun is not None}
    assert given and len(traces_in(folder)) == 16
    assert given == {trace.id for trace in traces_in(folder) if trace.completion.continued_at}


def test_a_sampler_that_cannot_go_on_begins_anew(problems: Path, tmp_path: Path) -> None:
    """A server's, for example."""
    folder = tmp_path / "t"
    stop = StopSignal()
    with pytest.raises(Interrupted, match="saved. Run"):
        run(problems, folder, Steps(18, stop), stop, **PARROTS)
    assert not (folder / FILE).exists()
    run(problems, folder, **PARROTS)
    run(problems, tmp_path / "whole")
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


PARROT = SamplerKind(open=lambda model, cluster, problems: Steps(-1))
