"""Several workers on one stage folder: nobody's work is lost or done twice, whatever happens to
them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from traces_kit import ONE_WORKER, opener, settings, text_of, traces_in, write_problems

from reasondistill.config import Cluster, VerdictSettings
from reasondistill.errors import ConfigError, DataError, DriftError, StageError
from reasondistill.models.samplers import Rendered, Request, TopK, failed
from reasondistill.models.samplers.opening import Serving
from reasondistill.models.samplers.scripted import ScriptedSampler
from reasondistill.models.topk import FOLDER, Source, TopKReader, TopKWriter
from reasondistill.records import Completion, Message
from reasondistill.runs import work_sharing
from reasondistill.runs.session import Session
from reasondistill.runs.store import (
    Manifest,
    StopSignal,
    count_lines,
    read_manifest,
    write_json,
    write_text,
)
from reasondistill.runs.work_sharing import Share, Worker, parsed
from reasondistill.stages.traces import capture, run_traces
from reasondistill.stages.verdicts import run_verdicts

Script = Callable[[Request], str | Completion]
CLUSTER, VERDICTS = Cluster(), VerdictSettings()


def sample(
    folder: Path,
    share: Share | None,
    script: Script = text_of,
    stop: StopSignal | None = None,
    n: int = 3,
    failures_allowed: float = 0.01,
) -> Manifest:
    problems = folder.parent / "1-problems"
    return run_traces(
        settings(n=n, failures_allowed=failures_allowed),
        problems,
        folder,
        Serving(CLUSTER, opener(script)),
        Session(share=share, stop=stop),
    )


def whole_crew(
    folder: Path, workers: int, script: Script = text_of, n: int = 3, failures_allowed: float = 0.01
) -> Manifest:
    sample(folder, Share("open", of=workers), n=n)
    for number in range(workers):
        sample(
            folder, Share("work", number, workers), script, n=n, failures_allowed=failures_allowed
        )
    return sample(folder, Share("close", of=workers), n=n, failures_allowed=failures_allowed)


@pytest.fixture
def alone(tmp_path: Path) -> bytes:
    """The traces of 40 problems as one process draws them."""
    write_problems(tmp_path / "1-problems", 40)
    sample(tmp_path / "alone", None)
    return (tmp_path / "alone" / "traces.jsonl").read_bytes()


# ---- traces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_any_number_of_workers_draws_the_same_traces(
    alone: bytes, tmp_path: Path, workers: int
) -> None:
    manifest = whole_crew(tmp_path / "t", workers)
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == alone
    assert manifest.status == "complete" and manifest.counts == {"in": 40, "out": 120}
    assert not (tmp_path / "t" / "parts").exists()


def test_workers_side_by_side_draw_each_sample_once(alone: bytes, tmp_path: Path) -> None:
    drawn: Counter[str] = Counter()

    def script(request: Request) -> str:
        drawn[request.id] += 1
        return text_of(request)

    sample(tmp_path / "t", Share("open", of=4))
    threads = [
        threading.Thread(target=sample, args=(tmp_path / "t", Share("work", number, 4), script))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sample(tmp_path / "t", Share("close", of=4))
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == alone
    assert set(drawn.values()) == {1} and len(drawn) == 120


def test_one_worker_does_what_the_others_never_began(alone: bytes, tmp_path: Path) -> None:
    sample(tmp_path / "t", Share("open", of=8))
    sample(tmp_path / "t", Share("work", 5, 8))
    sample(tmp_path / "t", Share("close", of=8))
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == alone


class ShortContext(ScriptedSampler):
    """One token per word of the prompt, and a context that takes none of these prompts; tells
    `looked` of each prompt that it is shown.
    """

    def __init__(self, looked: Callable[[str], None]) -> None:
        super().__init__(text_of, max_model_len=3)
        self._looked = looked

    def render(self, messages: tuple[Message, ...], *, plain: bool) -> Rendered:
        text = messages[-1].content
        self._looked(text)
        return Rendered(messages, token_ids=tuple(range(len(text.split()))))


def fill_with_short_context(folder: Path, looked: Callable[[str], None]) -> None:
    """One worker of one, of a stage that is opened for it."""
    sample(folder, Share("open", of=1), n=1)
    run_traces(
        settings(n=1),
        folder.parent / "1-problems",
        folder,
        Serving(CLUSTER, lambda *_: ShortContext(looked)),
        Session(share=Share("work", 0, 1)),
    )


def test_a_worker_whose_prompts_are_all_too_long_writes_each_down_as_it_looks_at_it(
    tmp_path: Path,
) -> None:
    write_problems(tmp_path / "1-problems", 4)
    folder = tmp_path / "t"
    on_disk: list[bool] = []

    def looked(text: str) -> None:
        if text != "What is 3+1?":
            return
        deadline = time.monotonic() + 10
        lines = 0
        while lines < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
            lines = sum(count_lines(path) for path in folder.glob("parts/*/w*/traces.jsonl"))
        on_disk.append(lines == 3)

    fill_with_short_context(folder, looked)
    assert on_disk == [True]


def test_a_worker_whose_prompts_are_all_too_long_stops_at_the_limit(tmp_path: Path) -> None:
    write_problems(tmp_path / "1-problems", 40)
    looked: list[str] = []
    with pytest.raises(StageError, match="5 of 40 problems cannot be asked, more than 5 %"):
        fill_with_short_context(tmp_path / "t", looked.append)
    assert len(looked) == 5


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def dying_after(count: int) -> Script:
    left = iter(range(count))

    def script(request: Request) -> str:
        if next(left, None) is None:
            raise Killed
        return text_of(request)

    return script


def test_a_worker_that_died_does_its_own_chunks_again_and_nobody_elses(
    alone: bytes, tmp_path: Path
) -> None:
    drawn: Counter[str] = Counter()

    def script(request: Request) -> str:
        drawn[request.id] += 1
        return text_of(request)

    folder = tmp_path / "t"
    sample(folder, Share("open", of=2))
    with pytest.raises(Killed):
        sample(folder, Share("work", 0, 2), dying_after(10))
    sample(folder, Share("work", 1, 2), script)
    with pytest.raises(StageError, match=r"of 120 samples are missing"):
        sample(folder, Share("close", of=2))
    assert (
        0 < 120 - len(traces_in(folder)) <= 120 - 110
    )  # its unfinished chunk, which nobody else may touch


def test_a_worker_started_again_under_its_number_ends_what_it_had_claimed(
    alone: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    sample(folder, Share("open", of=2))
    with pytest.raises(Killed):
        sample(folder, Share("work", 0, 2), dying_after(10))
    sample(folder, Share("work", 1, 2))
    sample(folder, Share("work", 0, 2))
    sample(folder, Share("close", of=2))
    assert (folder / "traces.jsonl").read_bytes() == alone


@pytest.mark.parametrize("again", [None, 1, 3, 16])
def test_another_number_of_workers_goes_on_where_sixteen_were_stopped(
    alone: bytes, tmp_path: Path, again: int | None
) -> None:
    folder, redrawn = tmp_path / "t", Counter[str]()
    sample(folder, Share("open", of=16))
    for number in range(16):
        with pytest.raises(Killed):
            sample(folder, Share("work", number, 16), dying_after(number % 5))
    kept = sum(path.read_bytes().count(b"\n") for path in folder.glob("parts/*/w*/traces.jsonl"))

    def script(request: Request) -> str:
        redrawn[request.id] += 1
        return text_of(request)

    if again is None:
        sample(folder, None, script)
    else:
        whole_crew(folder, again, script)
    assert (folder / "traces.jsonl").read_bytes() == alone
    assert kept > 0 and sum(redrawn.values()) == 120 - kept


def test_what_was_damaged_of_workers_files_is_drawn_again(
    alone: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, redrawn = tmp_path / "t", Counter[str]()
    sample(folder, Share("open", of=2))
    for number in range(2):
        with pytest.raises(Killed):
            sample(folder, Share("work", number, 2), dying_after(20))
    files = sorted(folder.glob("parts/*/w*/traces.jsonl"))
    kept = sum(path.read_bytes().count(b"\n") for path in files)
    lines = files[0].read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"boxed{", b"boxed{1")
    files[0].write_bytes(b"".join(lines))
    files[1].write_bytes(files[1].read_bytes()[:-100] + bytes(100))
    (folder / "parts" / "attempt.json").write_text('{"name": "zero')

    def script(request: Request) -> str:
        redrawn[request.id] += 1
        return text_of(request)

    whole_crew(folder, 3, script)
    assert (folder / "traces.jsonl").read_bytes() == alone
    assert sum(redrawn.values()) == 120 - kept + 2
    assert "1 lines are taken out (line 4)" in caplog.text
    assert "1 lines are missing" in caplog.text and "attempt.json: not an attempt" in caplog.text
    assert sorted(path.name for path in folder.iterdir()) == [
        ".manifest.copy.json", ".traces.jsonl.taken-out",
        "manifest.json", "metrics.jsonl", "traces.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["own", "claims"])
def test_a_worker_takes_no_damaged_attempt_for_its_own(
    alone: bytes, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "t"
    sample(folder, Share("open", of=2))
    if place == "own":
        path = folder / "parts" / "attempt.json"
        path.write_text(path.read_text().replace('"workers": 2', '"workers": 3'))
        with pytest.raises(DataError, match=r"attempt.json: .* The same command begins another"):
            sample(folder, Share("work", 0, 2))
    else:  # a claim that names another worker costs its chunk, which is done by the next attempt
        sample(folder, Share("work", 0, 2))
        [claims] = folder.glob("parts/*/claims")
        sample(folder, Share("work", 1, 2))
        for claim in claims.iterdir():
            claim.unlink()
            claim.symlink_to("w7")
    whole_crew(folder, 2)
    assert (folder / "traces.jsonl").read_bytes() == alone


def test_attempts_of_earlier_versions_have_no_guard(tmp_path: Path) -> None:
    attempt = work_sharing.begin(tmp_path, workers=2, chunk=3, offsets=[0, 70])
    assert work_sharing.current(tmp_path) == attempt
    path = tmp_path / "parts" / "attempt.json"
    assert json.loads(path.read_text())["format"] == 2
    write_json(path, attempt.__dict__)
    assert work_sharing.current(tmp_path) == attempt


def test_failed_samples_are_counted_and_drawn_again(alone: bytes, tmp_path: Path) -> None:
    def fails(request: Request) -> str | Completion:
        if request.id.endswith("7:1"):
            return failed("the server is tired")
        return text_of(request)

    with pytest.raises(StageError, match="2 of 120 samples were lost"):
        whole_crew(tmp_path / "t", 3, fails)
    manifest = whole_crew(tmp_path / "t", 3, fails, failures_allowed=0.05)
    assert manifest.counts["failed"] == 4
    whole_crew(tmp_path / "t", 3)
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == alone


def test_more_samples_are_topped_up_by_workers(alone: bytes, tmp_path: Path) -> None:
    whole_crew(tmp_path / "t", 3, n=2)
    whole_crew(tmp_path / "t", 5, n=3)
    assert (tmp_path / "t" / "traces.jsonl").read_bytes() == alone


def test_a_finished_stage_gives_workers_nothing_to_do(alone: bytes, tmp_path: Path) -> None:
    first = whole_crew(tmp_path / "t", 2)

    def never(request: Request) -> str:
        raise AssertionError("drawn again")

    assert whole_crew(tmp_path / "t", 4, never) == first


def test_a_worker_wants_an_open_stage_made_from_the_same_settings(
    alone: bytes, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match="not open for workers"):
        sample(tmp_path / "t", Share("work", 0, 2))
    sample(tmp_path / "t", Share("open", of=2))
    with pytest.raises(DriftError, match="n was 3, is 4"):
        sample(tmp_path / "t", Share("work", 0, 2), n=4)


def test_a_worker_of_an_attempt_that_is_over_stops(alone: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    sample(folder, Share("open", of=2))
    late = Worker(folder, 1)
    sample(folder, Share("open", of=2))
    with pytest.raises(StageError, match="this attempt is over"):
        list(late.claims(4, group="teacher0"))


def test_when_the_time_is_nearly_up_a_worker_ends_what_it_has_and_claims_nothing(
    alone: bytes, tmp_path: Path
) -> None:
    folder, stop = tmp_path / "t", StopSignal()

    def script(request: Request) -> str:
        stop._announce(10, None)  # pyright: ignore[reportPrivateUsage] - what SIGUSR1 calls
        return text_of(request)

    sample(folder, Share("open", of=2))
    with pytest.raises(StageError, match="Stopped on request"):
        sample(folder, Share("work", 0, 2), script, stop)
    assert (
        1
        <= sum(path.read_bytes().count(b"\n") for path in folder.glob("parts/*/w*/traces.jsonl"))
        < 12
    )
    sample(folder, Share("work", 0, 2))
    sample(folder, Share("work", 1, 2))
    sample(folder, Share("close", of=2))
    assert (folder / "traces.jsonl").read_bytes() == alone


def test_what_workers_captured_of_the_top_k_is_taken_into_one_cache(tmp_path: Path) -> None:
    source = Source("teacher@1", 2, {"a": 0, "b": 1, "c": 2}, 3)

    def top_k(seed: int) -> TopK:
        drawn = np.random.default_rng(seed)
        return TopK(
            drawn.integers(0, 3, 4, np.int32),
            drawn.integers(0, 3, (4, 2), np.int32),
            -drawn.random((4, 2)).astype(np.float32),
        )

    folder = tmp_path / "t"
    with TopKWriter(folder / FOLDER, source) as own:
        own.append([("p:0", top_k(0))])
    for number in (1, 2):
        with TopKWriter(folder / "parts" / "x" / f"w{number}" / FOLDER, source) as part:
            part.append([(f"p:{number}", top_k(number)), ("p:0", top_k(0))])
    barely = folder / "parts" / "x" / "w4" / FOLDER  # as far as a killed worker came
    barely.mkdir(parents=True)
    shutil.copyfile(folder / FOLDER / "topk.json", barely / "topk.json")
    with TopKWriter(folder / "parts" / "x" / "w5" / FOLDER, source) as part:
        part.append([("p:1", top_k(1))])
        size = (part.folder / "topk.bin").stat().st_size
        part.append([("p:5", top_k(5))])
    os.truncate(part.folder / "topk.bin", size + 3)  # published a moment before its index
    for part in work_sharing.worker_folders(folder):
        capture.take_in(folder, part)
    work_sharing.gather(folder, extras=[FOLDER])
    with TopKReader(folder / FOLDER) as reader:
        assert sorted(reader) == ["p:0", "p:1", "p:2"]
        np.testing.assert_array_equal(reader.read("p:2").ids, top_k(2).ids)
        assert reader.tokens == 12


# ---- verdicts ------------------------------------------------------------------------------------


def grade(folder: Path, share: Share | None, verdicts: VerdictSettings = VERDICTS) -> Manifest:
    run = folder.parent
    return run_verdicts(
        verdicts,
        run / "1-problems",
        run / "alone",
        folder,
        Serving(ONE_WORKER),
        Session(share=share),
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_verdicts(
    alone: bytes, tmp_path: Path, workers: int
) -> None:
    one = grade(tmp_path / "one", None)
    grade(tmp_path / "v", Share("open", of=workers))
    for number in reversed(range(workers)):
        grade(tmp_path / "v", Share("work", number, workers))
    manifest = grade(tmp_path / "v", Share("close", of=workers))
    assert (tmp_path / "v" / "verdicts.jsonl").read_bytes() == (
        tmp_path / "one" / "verdicts.jsonl"
    ).read_bytes()
    assert manifest.output == one.output and manifest.figures == one.figures | {"workers": workers}


def test_missing_verdicts_are_counted_and_any_number_of_workers_grades_them(
    alone: bytes, tmp_path: Path
) -> None:
    one, folder = grade(tmp_path / "one", None), tmp_path / "v"
    grade(folder, Share("open", of=4))
    worker = Worker(folder, 0)
    claimed = worker.claims(len(worker.attempt.offsets))
    next(claimed)  # and then it died
    grade(folder, Share("work", 1, 4))
    with pytest.raises(StageError, match=r"\d of 120 verdicts are missing"):
        grade(folder, Share("close", of=4))
    grade(folder, Share("open", of=2))
    grade(folder, Share("work", 0, 2))
    grade(folder, Share("close", of=2))
    assert (folder / "verdicts.jsonl").read_bytes() == (
        tmp_path / "one" / "verdicts.jsonl"
    ).read_bytes()
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.output == one.output


def test_another_grader_throws_away_what_workers_left(alone: bytes, tmp_path: Path) -> None:
    folder, strict = tmp_path / "v", VerdictSettings(policy="strict")
    grade(folder, Share("open", of=2))
    grade(folder, Share("work", 0, 2))
    grade(folder, Share("open", of=2), strict)
    assert not list(folder.glob("parts/*/w*"))
    grade(folder, Share("work", 0, 2), strict)
    grade(folder, Share("close", of=2), strict)
    grade(tmp_path / "one", None, strict)
    assert (folder / "verdicts.jsonl").read_bytes() == (
        tmp_path / "one" / "verdicts.jsonl"
    ).read_bytes()


# ---- claims --------------------------------------------------------------------------------------


def test_each_chunk_is_claimed_once_by_its_own_worker_first(tmp_path: Path) -> None:
    work_sharing.begin(tmp_path, workers=3, chunk=1)
    workers = [Worker(tmp_path, number).claims(10) for number in range(3)]
    first = [[next(claims) for _ in range(2)] for claims in workers]
    assert first == [[0, 3], [1, 4], [2, 5]]
    rest = [chunk for claims in workers for chunk in claims]
    assert sorted(rest) == [6, 7, 8, 9]


def test_where_the_file_system_knows_no_links_files_are_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    work_sharing.begin(tmp_path, workers=2, chunk=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refuses)
        workers = [Worker(tmp_path, number).claims(7) for number in range(2)]
        assert [next(workers[0]), next(workers[1]), next(workers[0])] == [0, 1, 2]
        assert sorted(chunk for claims in workers for chunk in claims) == [3, 4, 5, 6]
        again = Worker(tmp_path, 0).claims(7)
        assert {0, 2} <= set(again)


def test_a_share_is_written_and_read_on_the_command_line() -> None:
    assert parsed(Share("work", 3, 8).text) == Share("work", 3, 8)
    assert str(Share("work", 3, 8)) == "4/8"
    with pytest.raises(ConfigError, match="must be open, work or close"):
        parsed("work:x:3")


def test_files_of_workers_that_nobody_knows_are_not_thrown_away(tmp_path: Path) -> None:
    attempt = work_sharing.begin(tmp_path, workers=1, chunk=1)
    write_text(tmp_path / "parts" / attempt.name / "w0" / "weights.bin", "precious")
    with pytest.raises(StageError, match="weights.bin"):
        work_sharing.gather(tmp_path)
