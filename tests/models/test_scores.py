"""What a model says of stored traces: steps, log-probabilities, ranks, and the folder of them."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_examples import PROMPT, finished, graded, problem
from tiny_model import make_tiny_model, make_tokenizer

from reasondistill.config import ScoreSettings
from reasondistill.errors import ConfigError, DataError, ReasonDistillError, StageError
from reasondistill.models.samplers import TopK
from reasondistill.models.scores.folder import ScoreFolder, run_scores
from reasondistill.models.scores.job import ScoreJob, ScoringModel
from reasondistill.models.scores.steps import Pieces, step_ends
from reasondistill.models.topk import Source, TopKWriter
from reasondistill.models.vocabulary import vocabulary_of
from reasondistill.records import Trace, TraceScore
from reasondistill.runs.checking import LocalTree, check_run
from reasondistill.runs.layout import RunFolder
from reasondistill.runs.repairing import repair_run
from reasondistill.runs.session import Session
from reasondistill.runs.store import Shard, open_stage, read_records, seal, unseal
from reasondistill.runs.work_sharing import Share

# ---- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "unit", "ends"),
    [
        (["So", " 2", ".", " Then", "\n", "\n", "3", "."], "sentences", [3, 6, 8]),
        (["So", " 2", ".", " Then", "\n", "\n", "3", "."], "lines", [6, 8]),
        (["3", ".", "14", " is", " pi", "!", " Yes"], "sentences", [6, 7]),
        (["Is it so?\n", "Yes", "<end>"], "sentences", [1, 3]),
        (["\u662f\u3002", "\u597d\uff01", "a"], "sentences", [1, 2, 3]),
        (["\n", "\n", "a"], "sentences", [2, 3]),
        (["a"], "lines", [1]),
        ([], "lines", []),
    ],
)
def test_steps_end_with_lines_or_sentences(
    pieces: Sequence[str], unit: Any, ends: Sequence[int]
) -> None:
    assert step_ends(pieces, unit) == ends


def test_the_pieces_of_a_text_are_its_tokens_texts() -> None:
    tokenizer = make_tokenizer()
    text = "One and two.\nThree."
    ids = tokenizer(text)["input_ids"]
    assert "".join(Pieces(tokenizer).of(ids)) == text


# ---- measuring -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", max_position_embeddings=2048)


@pytest.fixture(scope="module")
def loaded(tiny: Path) -> tuple[Any, Any]:
    from reasondistill.models.scores.measuring import load

    return load(ScoringModel(str(tiny)))


def by_the_book(model: Any, ids: Sequence[int], start: int) -> tuple[list[float], list[int]]:
    """log q and rank of ids[start:] from the logits of the whole text, by definition."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([list(ids)])).logits[0].double().numpy()
    log_probs: list[float] = []
    ranks: list[int] = []
    for place in range(start, len(ids)):
        row = logits[place - 1]
        largest = row.max()
        total = largest + math.log(np.exp(row - largest).sum())
        log_probs.append(float(row[ids[place]] - total))
        ranks.append(1 + int((row > row[ids[place]]).sum()))
    return log_probs, ranks


def test_tokens_are_scored_as_by_the_whole_text_at_once(loaded: tuple[Any, Any]) -> None:
    from reasondistill.models.scores.measuring import token_scores

    model, _ = loaded
    ids = np.random.default_rng(0).integers(5, 300, 700).tolist()  # two parts of the cache
    for start in (1, 100, 600):
        log_probs, ranks = by_the_book(model, ids, start)
        found = token_scores(model, ids, start)
        # float32 in another order: no digit beyond the fourth is promised.
        assert found.log_probs.tolist() == pytest.approx(log_probs, abs=2e-4)
        differing = np.array(found.ranks.tolist()) != np.array(ranks)
        assert differing.mean() < 0.02  # near-ties may change places


def test_steps_see_their_window_alone() -> None:
    from reasondistill.models.scores.measuring import local_stretches

    prompt, ids, ends = [1, 2], [10, 11, 12, 13, 14, 15], [2, 3, 5, 6]
    narrow = local_stretches(prompt, ids, ends, window=1, prompted=False)
    assert [(one.ids, one.start) for one in narrow] == [
        ([1, 2, 10, 11], 2),
        ([1, 2, 10, 11, 12], 4),  # the window reaches the beginning: behind the prompt
        ([12, 13, 14], 1),
        ([13, 14, 15], 2),
    ]
    prompted = local_stretches(prompt, ids, ends, window=1, prompted=True)
    assert [one.ids for one in prompted[2:]] == [[1, 2, 12, 13, 14], [1, 2, 13, 14, 15]]
    wide = local_stretches(prompt, ids, ends, window=9, prompted=False)
    assert wide[-1].ids == [*prompt, *ids] and wide[-1].start == 7


def test_short_stretches_side_by_side_are_scored_as_alone(loaded: tuple[Any, Any]) -> None:
    from reasondistill.models.scores.measuring import Stretch, stretch_log_probs

    model, _ = loaded
    draws = np.random.default_rng(1)
    lengths = [3, 40, 7, 300, 300, 2]
    stretches = [Stretch(draws.integers(5, 300, length).tolist(), 1) for length in lengths]
    alone = [sum(by_the_book(model, one.ids, 1)[0]) for one in stretches]
    assert stretch_log_probs(model, stretches, 0) == pytest.approx(alone, abs=5e-3)


def test_a_token_outside_of_the_teachers_best_is_no_likelier_than_what_they_leave() -> None:
    from reasondistill.models.scores.measuring import stored_log_probs

    log_probs = np.log(np.array([[0.5, 0.3], [0.5, 0.3], [0.9, 0.05]], np.float32))
    stored = TopK(np.array([7, 9, 9]), np.array([[7, 8], [7, 8], [7, 8]]), log_probs)
    # The first is among them; the second has at most 1 − 0.8 = 0.2; the third at most 0.05.
    expected = [math.log(p) for p in (0.5, 0.2, 0.05)]
    assert stored_log_probs(stored).tolist() == pytest.approx(expected, abs=5e-3)


def test_what_the_best_leave_is_a_bound_although_their_rounding_takes_all_of_it() -> None:
    from reasondistill.models.scores.measuring import stored_log_probs

    own = 1e-5
    likeliest = np.linspace(0.5, 0.95, 50)
    both = np.log(np.stack([likeliest, 1 - likeliest - own], axis=1)).astype(np.float16)
    ids = np.tile(np.array([7, 8]), (50, 1))
    bound = stored_log_probs(TopK(np.full(50, 9), ids, both.astype(np.float32)))
    assert np.exp(both.astype(np.float64)).sum(-1).max() > 1
    assert bound.min() >= math.log(own)


# ---- the folder ----------------------------------------------------------------------------------

TEXTS = ["It is 1. So \\boxed{1}", "One.\nAnd \\boxed{1}", "\\boxed{1} " + "zq" * 40]


def stages(folder: Path, problems: int = 2, samples: int = 3) -> Path:
    numbers = range(1, problems + 1)
    traces: list[Trace] = []
    for number in numbers:
        for sample in range(samples):
            text = f"{TEXTS[sample % 3]} {number} {sample}"
            traces.append(graded(number, sample, text=text).trace)
    finished(folder / "1-problems", "problems", problems=[problem(n) for n in numbers])
    return finished(folder / "2-traces", "traces", traces=traces)


def job_of(folder: Path, kind: Any, model: Path, **keys: Any) -> ScoreJob:
    return ScoreJob(
        kind,
        ScoringModel(str(model)),
        ScoreSettings(**keys),
        PROMPT,
        folder / "1-problems",
        folder / "2-traces",
    )


def scores_of(job: ScoreJob) -> list[TraceScore]:
    return list(read_records(ScoreFolder.of(job).path / "scores.jsonl", TraceScore))


def test_every_trace_has_one_score_beside_the_traces(tiny: Path, tmp_path: Path) -> None:
    stages(tmp_path)
    job = job_of(tmp_path, "whole", tiny, rank_limit=3)
    manifest = run_scores(job)
    folder = ScoreFolder.of(job)
    assert folder.path.parent == tmp_path / "2-traces" / "scores" and folder.is_complete
    assert manifest.section["model"].startswith("model@") and manifest.counts["out"] == 6
    scores = scores_of(job)
    assert [one.trace_id for one in scores] == [
        f"d/train/{n}:{s}" for n in (1, 2) for s in range(3)
    ]
    # Behind the prompt that a student learns it from, with the end of a text.
    from reasondistill.models.scores.measuring import load

    model, tokenizer = load(job.model)
    asked = tokenizer.apply_chat_template(
        [
            message.model_dump(include={"role", "content"})
            for message in PROMPT.prompt.render(problem(1).question)
        ],
        add_generation_prompt=True,
        tokenize=False,
    )
    text = f"<think>\nlet me see\n</think>\n\n{TEXTS[0]} 1 0"
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    ids = [*prompt, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    log_probs, ranks = by_the_book(model, ids, len(prompt))
    assert scores[0].tokens == len(log_probs)
    assert scores[0].surprisal == pytest.approx(-sum(log_probs), abs=1e-2)
    assert scores[0].ranks == sum(min(rank, 3) for rank in ranks)


def test_steps_add_up_to_the_whole_where_the_window_is_wide(tiny: Path, tmp_path: Path) -> None:
    stages(tmp_path, problems=1)
    whole, local = (job_of(tmp_path, kind, tiny, window=50) for kind in ("whole", "local"))
    run_scores(whole)
    run_scores(local)
    for one, other in zip(scores_of(whole), scores_of(local), strict=True):
        assert sum(other.step_tokens) == one.tokens and len(other.step_tokens) > 1
        assert -sum(other.step_log_probs) == pytest.approx(one.surprisal, abs=1e-2)


def test_a_text_beyond_the_context_has_a_reason_in_place_of_a_score(tmp_path: Path) -> None:
    short = make_tiny_model(tmp_path / "model", max_position_embeddings=64)
    stages(tmp_path, problems=1)
    job = job_of(tmp_path, "whole", short)
    manifest = run_scores(job)
    assert manifest.dropped == {"longer than the context": 3}
    assert all(one.fault == "longer than the context" for one in scores_of(job))

    # What its scaling of positions adds is context too.
    config = json.loads((short / "config.json").read_text())
    scaling = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64}
    config["rope_parameters"] = {"rope_theta": 10_000.0} | scaling
    (short / "config.json").write_text(json.dumps(config))
    assert run_scores(job_of(tmp_path, "whole", short)).dropped == {}


def test_the_teachers_stored_log_probabilities_stand_beside_the_models(
    tiny: Path, tmp_path: Path
) -> None:
    stages(tmp_path, problems=1)
    tokenizer = make_tokenizer()
    job = job_of(tmp_path, "teacher", tiny, unit="lines")
    texts = [f"<think>\nlet me see\n</think>\n\n{TEXTS[0]} 1 0", "another text"]
    vocabulary = vocabulary_of(tokenizer)
    with TopKWriter(tmp_path / "2-traces" / "topk", Source("t@1", 2, vocabulary, 320)) as cache:
        for sample, text in enumerate(texts):
            ids = np.array([*tokenizer(text)["input_ids"], tokenizer.eos_token_id], np.int32)
            best = np.stack([ids, np.zeros_like(ids)], axis=1)
            log_probs = np.log(np.tile(np.array([0.8, 0.1], np.float32), (len(ids), 1)))
            cache.append([(f"d/train/1:{sample}", TopK(ids, best, log_probs))])
    run_scores(job)
    first, *others = scores_of(job)
    assert [one.fault for one in others] == [
        "written after another kind of prompt",
        "no stored log-probabilities",
    ]
    means = [total / n for total, n in zip(first.teacher_log_probs, first.step_tokens, strict=True)]
    assert means == pytest.approx([math.log(0.8)] * len(means), abs=1e-3) and len(means) > 2
    assert -sum(first.step_log_probs) == pytest.approx(first.surprisal, abs=1e-3)

    # A base that ends texts with another token than its teacher: each has its own end there.
    base = replace(job, model=replace(job.model, eos_token="<|endoftext|>"))
    run_scores(base)
    as_base, *others = scores_of(base)
    assert as_base.teacher_log_probs == first.teacher_log_probs
    *before, last = as_base.step_log_probs
    assert before == pytest.approx(first.step_log_probs[:-1], abs=1e-3)
    assert abs(last - first.step_log_probs[-1]) > 1e-2
    assert [one.fault is None for one in others] == [False, False]


def cached(folder: Path, samples: Sequence[int], k: int) -> None:
    """The K best tokens of these samples of the first problem, in the cache of their traces."""
    tokenizer = make_tokenizer()
    unseal(folder, ["topk"])
    with TopKWriter(folder / "topk", Source("t@1", k, vocabulary_of(tokenizer), 320)) as cache:
        for sample in samples:
            ids = np.array([*tokenizer(f"text {sample}")["input_ids"]], np.int32)
            best = np.stack([ids] + [np.full_like(ids, n) for n in range(1, k)], axis=1)
            cache.append([(f"d/train/1:{sample}", TopK(ids, best, -np.ones(best.shape, "f4")))])
    seal(folder, ["topk"])


def test_another_cache_of_the_teacher_makes_other_scores_and_a_longer_one_adds_to_them(
    tiny: Path, tmp_path: Path
) -> None:
    traces = stages(tmp_path, problems=1, samples=3)
    measured: list[str] = []

    def noting(trace: Trace, question: str) -> TraceScore:
        measured.append(trace.id)
        return counting(trace, question)

    def again() -> list[str]:
        measured.clear()
        job = replace(job_of(tmp_path, "teacher", tiny), open_model=lambda _: noting)
        run_scores(job)
        assert ScoreFolder.of(job).is_complete
        return list(measured)

    everything = [f"d/train/1:{sample}" for sample in range(3)]
    cached(traces, range(3), k=2)
    assert again() == everything and again() == []
    before = ScoreFolder.of(job_of(tmp_path, "teacher", tiny)).inputs
    cached(traces, range(3), k=4)
    assert again() == everything
    after = ScoreFolder.of(job_of(tmp_path, "teacher", tiny)).inputs
    assert after["scores"] == before["scores"] and after["top_k"] != before["top_k"]
    grown(traces, graded(1, 3).trace)
    cached(traces, [3], k=4)
    assert again() == ["d/train/1:3"]


def grown(traces: Path, *more: Trace, without: Sequence[str] = ()) -> None:
    """More traces, in the place of some that failed."""
    from reasondistill.runs import store

    stood = read_records(traces / "traces.jsonl", Trace)
    left = [trace for trace in stood if trace.id not in without]
    whole = sorted([*left, *more], key=lambda trace: (trace.problem_id, trace.sample))
    identity = store.Identity("traces", 1, {"n": 4}, {})
    store.open_stage(traces, identity, has_grown=lambda *_: True)
    store.write_records(traces / "traces.jsonl", whole)
    count = {"in": len(whole), "out": len(whole)}
    store.finish_stage(traces, counts=count, seconds=0.0, files=["traces.jsonl"])


def test_a_sample_that_failed_and_was_drawn_again_is_scored(tiny: Path, tmp_path: Path) -> None:
    from reasondistill.models.samplers import failed

    whole = graded(1, 1).trace
    lost = whole.model_copy(update={"completion": failed("no answer")})
    finished(tmp_path / "1-problems", "problems", problems=[problem(1)])
    traces = finished(tmp_path / "2-traces", "traces", traces=[graded(1, 0).trace, lost])
    job = job_of(tmp_path, "whole", tiny)
    assert run_scores(job).dropped == {"sampling failed": 1}
    grown(traces, whole, graded(1, 2).trace, without=[whole.id])
    assert run_scores(job).dropped == {}
    assert [one.trace_id for one in scores_of(job)] == [f"d/train/1:{n}" for n in range(3)]
    assert all(one.tokens for one in scores_of(job))


def test_a_teacher_of_other_tokens_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    stages(tmp_path, problems=1)
    with TopKWriter(tmp_path / "2-traces" / "topk", Source("t@1", 2, {"a": 0, "b": 1}, 2)):
        pass
    with pytest.raises(ConfigError, match="t@1"):
        run_scores(job_of(tmp_path, "teacher", tiny))


def test_a_model_whose_tokenizer_cannot_be_loaded_is_refused_by_name(
    tiny: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    stages(tmp_path, problems=1)
    with pytest.raises(ConfigError, match="broken"):
        run_scores(job_of(tmp_path, "whole", broken))


def test_a_model_that_gives_no_numbers_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    spoilt = shutil.copytree(tiny, tmp_path / "spoilt")
    model = AutoModelForCausalLM.from_pretrained(spoilt)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    model.save_pretrained(spoilt)
    stages(tmp_path, problems=1)
    with pytest.raises(ConfigError, match="spoilt: gives a log-probability that is no finite"):
        run_scores(job_of(tmp_path, "whole", spoilt))


# ---- resumed and shared --------------------------------------------------------------------------


def counting(trace: Trace, question: str) -> TraceScore:
    """A measure of its own: no model is needed to see who measures what."""
    assert f"{trace.problem_id.split('/')[-1]}+0" in question
    return TraceScore(trace_id=trace.id, tokens=3, surprisal=float(trace.sample))


def counted_job(folder: Path, tiny: Path, measure: Any = counting, **session: Any) -> ScoreJob:
    job = job_of(folder, "whole", tiny)
    return replace(job, open_model=lambda _: measure, session=Session(**session))


def test_a_killed_pass_goes_on_with_what_is_missing(tiny: Path, tmp_path: Path) -> None:
    stages(tmp_path, problems=10, samples=4)
    seen: list[str] = []

    def dying(trace: Trace, question: str) -> TraceScore:
        seen.append(trace.id)
        if len(seen) == 37:
            os.kill(os.getpid(), signal.SIGKILL)
        return counting(trace, question)

    child = os.fork()
    if child == 0:
        run_scores(counted_job(tmp_path, tiny, dying))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    job = counted_job(tmp_path, tiny)
    path = ScoreFolder.of(job).path / "scores.jsonl"
    assert len(path.read_text().splitlines()) == 32
    with open(path, "a") as file:
        file.write('{"trace_id": "torn')
    rest: list[str] = []

    def noting(trace: Trace, question: str) -> TraceScore:
        rest.append(trace.id)
        return counting(trace, question)

    run_scores(counted_job(tmp_path, tiny, noting))
    assert len(rest) == 8
    alone = path.read_bytes()
    assert len(alone.splitlines()) == 40
    run_scores(counted_job(tmp_path, tiny, dying))  # complete: nothing is measured

    # Several workers make the same file, byte for byte.
    (path.parent / "manifest.json").unlink()
    for left in path.parent.iterdir():
        left.unlink()
    run_scores(counted_job(tmp_path, tiny, share=Share("open", of=3)))
    run_scores(counted_job(tmp_path, tiny, share=Share("work", 2, 3)))
    run_scores(counted_job(tmp_path, tiny, share=Share("work", 0, 3)))
    run_scores(counted_job(tmp_path, tiny, share=Share("close", of=3)))
    assert path.read_bytes() == alone


def test_a_shared_pass_is_not_closed_before_all_is_scored(tiny: Path, tmp_path: Path) -> None:
    stages(tmp_path)
    run_scores(counted_job(tmp_path, tiny, share=Share("open", of=2)))
    with pytest.raises(StageError, match="6 traces are not scored"):
        run_scores(counted_job(tmp_path, tiny, share=Share("close", of=2)))


def test_more_traces_are_scored_and_what_stands_stays(tiny: Path, tmp_path: Path) -> None:
    traces = stages(tmp_path)
    run_scores(counted_job(tmp_path, tiny))
    before = ScoreFolder.of(counted_job(tmp_path, tiny))
    grown(traces, graded(2, 3).trace)
    measured: list[str] = []

    def noting(trace: Trace, question: str) -> TraceScore:
        measured.append(trace.id)
        return counting(trace, question)

    run_scores(counted_job(tmp_path, tiny, noting))
    after = ScoreFolder.of(counted_job(tmp_path, tiny))
    assert measured == ["d/train/2:3"] and after.path == before.path
    # By the same model: what a later stage sees grow are the traces.
    assert after.inputs == before.inputs and not before.is_complete


def test_another_model_has_a_folder_of_its_own_and_settings_of_other_scores_none(
    tiny: Path, tmp_path: Path
) -> None:
    stages(tmp_path)
    other = make_tiny_model(tmp_path / "model", seed=1)
    path = ScoreFolder.of(job_of(tmp_path, "whole", tiny)).path
    assert ScoreFolder.of(job_of(tmp_path, "whole", other)).path != path
    assert ScoreFolder.of(job_of(tmp_path, "whole", tiny, rank_limit=9)).path != path
    # What only other kinds of score read changes nothing.
    assert ScoreFolder.of(job_of(tmp_path, "whole", tiny, window=9, margin=0.5)).path == path
    assert ScoreFolder.of(job_of(tmp_path, "local", tiny, window=9)).path != path


def test_damaged_scores_are_named_and_a_repair_keeps_the_sound_ones(
    tiny: Path, tmp_path: Path
) -> None:
    stages(tmp_path, problems=3)
    job = counted_job(tmp_path, tiny)
    run_scores(job)
    path = ScoreFolder.of(job).path / "scores.jsonl"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"train/2:1", b"train/2:9"))
    found = [fault for one in check_run(LocalTree(tmp_path)) for fault in one.faults]
    assert [fault.path for fault in found] == [path.relative_to(tmp_path).as_posix()]
    with pytest.raises(DataError, match=r"scores\.jsonl"):
        ScoreFolder.of(job).reader()("d/train/3:2")
    (repair,) = repair_run(RunFolder(tmp_path))
    assert repair.is_mended and "sound scores are kept" in repair.done
    run_scores(job)
    assert path.read_bytes() == sound


@pytest.mark.parametrize(
    "steps",
    [
        {"step_tokens": [0], "step_log_probs": [-1.0]},
        {"step_tokens": [3]},
        {"step_tokens": [3], "step_log_probs": [-1.0], "teacher_log_probs": [-1.0, -1.0]},
        {"step_tokens": [3], "step_log_probs": [-1.0], "teacher_log_probs": [1e300]},
    ],
)
def test_steps_that_nobody_measured_are_refused_by_their_line(
    tmp_path: Path, steps: dict[str, Any]
) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"trace_id": "p:0", "tokens": 3, "surprisal": 1.0} | steps) + "\n")
    with pytest.raises(DataError, match=r"scores\.jsonl:1"):
        list(read_records(path, TraceScore))


def test_a_reader_wants_the_order_of_the_traces(tiny: Path, tmp_path: Path) -> None:
    stages(tmp_path)
    job = counted_job(tmp_path, tiny)
    with pytest.raises(StageError):
        ScoreFolder.of(job).reader()
    run_scores(job)
    read = ScoreFolder.of(job).reader()
    assert read("d/train/1:1").surprisal == 1.0 and read("d/train/2:0").surprisal == 0.0
    assert read("d/train/2:0").surprisal == 0.0
    with pytest.raises(StageError, match="no score of d/train/1:0"):
        read("d/train/1:0")


@pytest.mark.parametrize(
    "forged",
    [
        {"step_tokens": (3,), "step_log_probs": ()},
        {"step_tokens": (3,), "step_log_probs": (-1.0, -1.0)},
        {"step_tokens": (0,), "step_log_probs": (-1.0,)},
        {"step_tokens": (3,), "step_log_probs": (-1.0,), "teacher_log_probs": (-1.0, -1.0)},
        {"step_tokens": (3,), "step_log_probs": (1e300,)},
        {"step_tokens": (3,), "step_log_probs": (-1.0,), "teacher_log_probs": (1e300,)},
    ],
)
def test_scores_of_somebody_else_that_are_none_are_refused_with_their_line(
    tmp_path: Path, forged: dict[str, Any]
) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"trace_id": "d/train/1:0", "tokens": 3} | forged) + "\n")
    with pytest.raises(DataError, match=r"scores\.jsonl:1: "):
        list(read_records(path, TraceScore))


@pytest.mark.parametrize("name", ["d/train/9:0", "d/train/1:x", "d/train/1", "d/train/1:12345678"])
def test_scores_of_traces_that_are_not_there_end_with_one_clear_error(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    stages(tmp_path)
    job = counted_job(tmp_path, tiny)
    folder = ScoreFolder.of(job)
    open_stage(folder.path, folder.identity)
    with Shard(folder.path / "scores.jsonl") as shard:
        shard.append([TraceScore(trace_id=name, tokens=1)])
    with pytest.raises(ReasonDistillError, match="not among the problems|not the id of a sample"):
        run_scores(job)
