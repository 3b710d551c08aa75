"""What a dry run says of a folder of traces is what the run does there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from traces_kit import ONE_WORKER, opener, settings, text_of, write_problems

from reasondistill.config import Cluster, TraceSettings
from reasondistill.models.samplers import Request, failed
from reasondistill.models.samplers.opening import Serving
from reasondistill.records import Completion
from reasondistill.runs.session import Session
from reasondistill.runs.store import Foreseen, require_complete, write_manifest
from reasondistill.stages.traces import foresee_traces, run_traces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Finished traces of four problems of which one sample was lost."""

    def loses(request: Request) -> str | Completion:
        return failed("HTTP 503") if request.id == "sums/train/2:1" else text_of(request)

    problems = write_problems(tmp_path / "problems", 4)
    traces = settings(failures_allowed=0.5)
    run_traces(traces, problems, tmp_path / "t", Serving(ONE_WORKER, opener(loses)))  # type: ignore[arg-type]
    return tmp_path / "t"


def foreseen_and_asked(
    folder: Path, traces: TraceSettings, *, heal: bool = True, keep_old: bool = False
) -> tuple[str, list[str]]:
    """What is foreseen, in a word, and what the run asks then."""
    problems = folder.parent / "problems"
    found = foresee_traces(traces, problems, folder, ONE_WORKER, heal=heal, keep_old=keep_old)
    asked: list[str] = []

    def noted(request: Request) -> str:
        asked.append(request.id)
        return text_of(request)

    session = Session(heal=heal, keep_old=keep_old)
    run_traces(traces, problems, folder, Serving(ONE_WORKER, opener(noted)), session)
    return found.word, asked


def test_a_lost_sample_is_foreseen_where_it_is_drawn_again(folder: Path) -> None:
    same = settings(failures_allowed=0.5)
    assert foreseen_and_asked(folder, same, heal=False) == ("complete", [])
    other = settings(failures_allowed=0.5, temperature=1.0)
    assert foreseen_and_asked(folder, other, keep_old=True) == ("complete", [])
    assert foreseen_and_asked(folder, same) == ("grows", ["sums/train/2:1"])
    assert foreseen_and_asked(folder, same) == ("complete", [])


def test_prompts_that_were_too_long_are_foreseen_in_another_context(folder: Path) -> None:
    foreseen_and_asked(folder, settings())
    manifest = require_complete(folder)
    engine = {"max_model_len": 64}
    counts = manifest.counts | {"refused": 2}
    figures = manifest.figures | {"engine": engine}
    write_manifest(folder, replace(manifest, counts=counts, figures=figures))
    words = [foreseen(folder, settings(), longest).word for longest in (64, 128)]
    assert words == ["complete", "grows"]


def foreseen(folder: Path, traces: TraceSettings, longest: int | None = None) -> Foreseen:
    cluster = Cluster.model_validate({"vllm": {"max_model_len": longest}})
    return foresee_traces(traces, folder.parent / "problems", folder, cluster)


def test_top_k_that_are_asked_for_later_are_foreseen_and_nothing_else_is(folder: Path) -> None:
    foreseen_and_asked(folder, settings())
    found = foreseen(folder, settings(logprobs=4, logprobs_model="some/scorer"))
    assert (found.word, found.stays) == ("grows", True)
    assert (foreseen(folder, settings()).word, foreseen(folder, settings(n=3)).stays) == (
        "complete",
        False,
    )
