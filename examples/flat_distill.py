"""The whole road in one file: problems → traces → verdicts → examples → student → scores.

    python examples/flat_distill.py out/

The problems are sums, and their own worked solutions stand in for a teacher, so nothing is
downloaded and two CPU cores do in under a minute; the student, a tiny Llama from scratch, learns
little in so short a time. To distil a real model put `VllmSampler("Qwen/Qwen3-8B")` in the place of
the ReferenceSampler and `base = "Qwen/Qwen3-0.6B-Base"` in the place of the architecture.

A pipeline file does the same with folders, resume and several machines: `reasondistill run`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from reasondistill.api import (
    Evaluation,
    Material,
    evaluate,
    judge_traces,
    make_examples,
    sample_traces,
    train_student,
)
from reasondistill.config import ExampleSettings, StudentSettings
from reasondistill.config.students import ArchitectureSettings
from reasondistill.grading import GradingPool
from reasondistill.models.prompts import load_prompt
from reasondistill.models.samplers import Sampler
from reasondistill.models.samplers.reference import ReferenceSampler
from reasondistill.models.samplers.vllm import VllmSampler
from reasondistill.records import Graded, Origin, Problem, Sampling

PROMPT = load_prompt("question")
SAMPLING = Sampling(temperature=0.7, max_tokens=64)
STUDENT = StudentSettings(
    name="flat",
    architecture=ArchitectureSettings(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        vocab_size=320,
    ),
    max_steps=30,
    batch_size=16,
    learning_rate=3e-3,
    max_length=128,
)


def make_problems(split: str, count: int, seed: int) -> list[Problem]:
    """Sums of two numbers below ten, each with its worked solution."""
    rng = random.Random(seed)
    problems: list[Problem] = []
    for row in range(count):
        left, right = rng.randrange(10), rng.randrange(10)
        problem = Problem(
            id=f"sums/{split}/{row}",
            question=f"What is {left}+{right}?",
            answer=str(left + right),
            reference_solution=f"{left} and {right} more make {left + right}.",
            origin=Origin(dataset="sums", revision="1", split=split, row=row),
        )
        problems.append(problem)
    return problems


def measure(
    name: str, sampler: Sampler, problems: list[Problem], grader: GradingPool, samples: int
) -> Evaluation:
    """Sample and grade a model on the problems, and score it."""
    traces = list(sample_traces(problems, sampler, PROMPT, SAMPLING, n=samples))
    traces.sort(key=lambda trace: (trace.problem_id, trace.sample))
    verdicts = judge_traces(traces, problems, grader)
    graded = [Graded(trace, verdict) for trace, verdict in zip(traces, verdicts, strict=True)]
    return evaluate(name, "sums", problems, graded, samples=samples, pool=grader)


def main(folder: Path) -> Evaluation:
    """Walk the road, print the scores, and leave the student in `folder`/model."""
    problems = make_problems("train", 64, seed=1)
    held_out = make_problems("test", 16, seed=2)
    with GradingPool() as grader:
        with ReferenceSampler(problems) as teacher:
            traces = list(sample_traces(problems, teacher, PROMPT, SAMPLING))
        verdicts = list(judge_traces(traces, problems, grader))
        settings = ExampleSettings(validation=0.1)
        chosen = make_examples(problems, traces, verdicts, PROMPT, settings)
        print(f"{len(chosen.kept)} examples, {len(chosen.dropped)} traces dropped")

        material = Material(chosen.kept, plain=PROMPT.prompt.plain)
        train_student(STUDENT, material, folder)

        with VllmSampler(str(folder / "model"), enforce_eager=True) as student:
            measured = measure(STUDENT.name, student, held_out, grader, samples=2)
    for score in measured.scores:
        interval = f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
        print(f"{score.metric}: {100 * score.mean:.1f} % {interval}, n = {score.n}, k = {score.k}")
    return measured


if __name__ == "__main__":
    main(Path(sys.argv[1]))
