"""Our evals beside EleutherAI's lm-evaluation-harness: same model, same GSM8K-form file, same prompt tokens, greedy, one machine.

    pip install --no-deps --requirement constraints/crosscheck.txt
    python -m pytest -m slow tests/test_crosscheck.py

The shipped teacher on gsm_symbolic problems always runs. Real GSM8K runs too when REASONDISTILL_GSM8K names OpenAI's test.jsonl and
REASONDISTILL_CROSSCHECK_MODEL the folder of a model that goes on from worked examples (SmolLM2-135M-Instruct: 2 % right, many kinds of
wrong endings); REASONDISTILL_CROSSCHECK_ROWS says how many of its problems.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from crosscheck_kit import (
    FLEXIBLE,
    STRICT,
    Row,
    Setting,
    explain,
    gsm_symbolic_rows,
    item_of,
    run_ours,
    run_theirs,
    side_by_side,
    write_side_by_side,
)

from reasondistill.grading import GradingPool
from reasondistill.prompts import Prompt, load_prompt
from reasondistill.samplers.vllm import VllmSampler
from reasondistill.traces import sample_key

pytest.importorskip("lm_eval", reason="pip install --no-deps --requirement constraints/crosscheck.txt")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Crosscheck:
    folder: Path
    setting: Setting
    rows: list[Row]
    our_seconds: float
    their_seconds: float


def shipped_teacher() -> tuple[list[dict[str, str]], Setting]:
    return gsm_symbolic_rows(240), Setting("shipped:demo-teacher", load_prompt("question").prompt, max_tokens=192, max_model_len=1024)


def real_gsm8k() -> tuple[list[dict[str, str]], Setting]:
    file, model = os.environ.get("REASONDISTILL_GSM8K"), os.environ.get("REASONDISTILL_CROSSCHECK_MODEL")
    if not file or not model:
        pytest.skip("set REASONDISTILL_GSM8K to GSM8K's test.jsonl and REASONDISTILL_CROSSCHECK_MODEL to a model's folder")
    count = int(os.environ.get("REASONDISTILL_CROSSCHECK_ROWS", "100"))
    rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()[:count]]
    # No stop string: a base model goes on to invent questions, and the two ways to find an answer differ most.
    return [{"question": row["question"], "answer": row["answer"]} for row in rows], Setting(model, with_marks(), 160, 1536)


def with_marks() -> Prompt:
    """The shipped few-shot prompt, its answers behind GSM8K's own mark, so that the harness's strict filter has something to find."""
    prompt = load_prompt("gsm8k_few_shot").prompt
    marked = [re.sub(r" The final answer is \\boxed\{(.*?)\}\.", r"\n#### \1", shot.answer) for shot in prompt.few_shot]
    shots = tuple(shot.model_copy(update={"answer": answer}) for shot, answer in zip(prompt.few_shot, marked, strict=True))
    return prompt.model_copy(update={"few_shot": shots[:5]})


@pytest.fixture(scope="module", params=[shipped_teacher, real_gsm8k], ids=["gsm_symbolic", "gsm8k"])
def crosscheck(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crosscheck]:
    """Both programs, one after the other, on the same files."""
    rows, setting = request.param()
    folder = tmp_path_factory.mktemp("crosscheck")
    write_side_by_side(folder, rows, setting)
    theirs, ours = run_theirs(folder), run_ours(folder)
    print(f"\nwhole road on {len(rows)} problems: ours {ours:.1f} s, lm-evaluation-harness {theirs:.1f} s, {ours / theirs:.2f}×")
    yield Crosscheck(folder, setting, side_by_side(folder), ours, theirs)


def test_both_give_the_model_the_same_tokens(crosscheck: Crosscheck) -> None:
    sampler = VllmSampler(crosscheck.setting.model, dtype="float32", max_model_len=crosscheck.setting.max_model_len)
    for row in crosscheck.rows:
        rendered = sampler.render(crosscheck.setting.prompt.render(row.question), plain=crosscheck.setting.prompt.plain)
        assert list(rendered.token_ids or ()) == row.theirs["ids"]
        assert row.trace.key == sample_key(sampler.model, rendered, row.trace.sampling, 0), "the trace was drawn from other tokens"


def test_greedy_completions_are_the_same_text(crosscheck: Crosscheck) -> None:
    """Same engine, other batches: where two tokens are as good as equal, rounding may choose the other one. Not more often than that."""
    differing = [row for row in crosscheck.rows if row.our_text != row.theirs["text"]]
    for row in differing:
        print(f"{row.trace.id}: ours …{row.our_text[-60:]!r}, theirs …{row.theirs['text'][-60:]!r}")
    assert len(differing) <= 0.05 * len(crosscheck.rows)


def test_where_the_text_is_the_same_every_other_verdict_has_a_known_reason(crosscheck: Crosscheck) -> None:
    alike = [row for row in crosscheck.rows if row.our_text == row.theirs["text"]]
    reasons: Counter[str] = Counter()
    for row in alike:
        for name in (FLEXIBLE, STRICT):
            if row.verdict.grade.is_correct != row.theirs[name]["correct"]:
                reason = explain(row.theirs["text"], row.gold, row.verdict.grade, name, row.theirs[name]["extracted"])
                assert reason is not None, f"{row.trace.id} {name}: {row.verdict.grade}, theirs {row.theirs[name]}, {row.theirs['text']!r}"
                reasons[f"{name} {'accepts' if row.theirs[name]['correct'] else 'refuses'}, {reason}"] += 1
    correct = [
        sum(verdicts) for verdicts in zip(*((r.verdict.grade.is_correct, r.theirs[FLEXIBLE]["correct"]) for r in alike), strict=True)
    ]
    print(f"{len(alike)} same texts: ours {correct[0]} correct, flexible-extract {correct[1]}")
    for reason, count in reasons.most_common():
        print(f"{count:4} × {reason}")
    flexible = sum(count for reason, count in reasons.items() if reason.startswith(FLEXIBLE))
    assert 0 < correct[0] < len(alike) and flexible < len(alike) / 2, "nothing was compared"


def test_the_harness_completions_get_the_same_grades_from_us(crosscheck: Crosscheck) -> None:
    with GradingPool(workers=1) as pool:
        again = [grade for _, grade in pool.grade_many([item_of(row) for row in crosscheck.rows])]
    for row, grade in zip(crosscheck.rows, again, strict=True):
        if row.our_text == row.theirs["text"]:
            assert (grade.outcome, grade.extracted) == (row.verdict.grade.outcome, row.verdict.grade.extracted)


def test_scoring_takes_no_longer_than_the_harness(crosscheck: Crosscheck) -> None:
    program = str(Path(__file__).with_name("crosscheck_harness.py"))
    done = subprocess.run([sys.executable, program, "score", str(crosscheck.folder), "3"], capture_output=True, text=True, check=True)
    theirs = min(float(line.split()[0]) for line in done.stdout.splitlines())
    items = [item_of(row) for row in crosscheck.rows]
    with GradingPool(workers=1) as pool:
        started = time.perf_counter()
        assert sum(1 for _ in pool.grade_many(items)) == len(items)
        ours = time.perf_counter() - started
    print(f"\nscoring {len(items)} completions: ours {ours:.3f} s (first time), theirs {theirs:.3f} s (best of 3), {theirs / ours:.0f}×")
    assert ours <= theirs


def test_the_whole_road_takes_no_longer_than_the_harness(crosscheck: Crosscheck) -> None:
    """Load, generate, score, each in programs started anew. A tenth of slack: one run each on a machine that others may use too."""
    assert crosscheck.our_seconds <= 1.1 * crosscheck.their_seconds
