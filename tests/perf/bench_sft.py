"""SFT by our stage beside plain TRL, on the same rows with the same settings: tokens per second of
both and their ratio, as JSON.

    python tests/perf/bench_sft.py [--model FOLDER] [--steps 8] [--batch 8] [--micro 4] [--rounds 3]

Plain TRL is `SFTTrainer` with an `SFTConfig` of the same batch, schedule and precision on the same
ids and labels: what somebody would write who has tokenised rows. Both in one process, in turns; the
fastest round of each counts. The clock runs while `Trainer.train` does; tokens are those that are
no padding. Ours also checks for NaN, sorts rows by length within a batch, writes metrics. Without a
model it makes a random one of 0.2M parameters, for which Python is most of a step.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from crosscheck_kit import gsm_symbolic_rows
from datasets import Dataset
from tiny_model import make_tiny_model
from trl import SFTConfig, SFTTrainer

from reasondistill.config import StudentSettings, TrainSettings
from reasondistill.records import Example, Message
from reasondistill.stages.students import Material, TrainingRun, train_student
from reasondistill.stages.students.tokens import tokenise_all
from reasondistill.stages.students.trainer_settings import trainer_settings


@dataclass
class Clock:
    """Seconds and tokens of each training since it was set."""

    seconds: list[float]
    tokens: list[int]

    def set(self) -> None:
        """Measure `Trainer.train` wherever it is called."""
        train = transformers.Trainer.train

        def timed(trainer: Any, *arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            done = train(trainer, *arguments, **options)
            self.seconds.append(time.perf_counter() - started)
            self.tokens.append(int(trainer.state.num_input_tokens_seen))
            return done

        transformers.Trainer.train = timed

    def best(self) -> float:
        """Tokens per second of the fastest."""
        rates = [tokens / s for tokens, s in zip(self.tokens, self.seconds, strict=True)]
        return max(rates)


def examples(count: int) -> list[Example]:
    """Worked solutions of gsm_symbolic's templates."""
    return [
        Example(
            id=f"p/{number}:0",
            problem_id=f"p/{number}",
            trace_id=f"p/{number}:0",
            messages=(
                Message(role="user", content=row["question"]),
                Message(role="assistant", content=row["answer"]),
            ),
            tokens=0,
            split="train",
        )
        for number, row in enumerate(gsm_symbolic_rows(count))
    ]


def train_plainly(
    student: StudentSettings, settings: TrainSettings, rows: Sequence[Example], folder: Path
) -> None:
    """What somebody writes who has tokenised rows and TRL."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(student.base)
    found = tokenise_all(rows, tokenizer, plain=False, max_length=student.max_length).rows
    ids = [{"input_ids": list(row.input_ids), "labels": list(row.labels)} for row in found]
    ours = trainer_settings(student, folder, settings, validates=False)
    same = (
        *("per_device_train_batch_size", "gradient_accumulation_steps", "max_steps"),
        *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        *("weight_decay", "adam_beta2", "max_grad_norm", "max_length", "packing", "bf16"),
        *("use_cpu", "gradient_checkpointing", "gradient_checkpointing_kwargs", "seed"),
        *("include_num_input_tokens_seen", "disable_tqdm"),
    )
    arguments = SFTConfig(
        output_dir=str(folder),
        save_strategy="no",
        report_to="none",
        **{name: getattr(ours, name) for name in same},
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(student.base, dtype=torch.float32)
    SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(ids),
        processing_class=tokenizer,
    ).train()


def compare(model: str, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    rows = examples(given.steps * given.batch)
    settings = TrainSettings(micro_batch_size=given.micro)
    student = StudentSettings(
        name="student",
        base=model,
        max_steps=given.steps,
        batch_size=given.batch,
        learning_rate=1e-5,
        max_length=given.max_length,
        save_every=10**6,
    )
    ours, plain = Clock([], []), Clock([], [])
    clock = Clock([], [])
    clock.set()
    for number in range(given.rounds):
        train_student(
            student, Material(rows), root / f"ours-{number}", run=TrainingRun(settings=settings)
        )
        ours.seconds.append(clock.seconds[-1])
        ours.tokens.append(clock.tokens[-1])
        train_plainly(student, settings, rows, root / f"plain-{number}")
        plain.seconds.append(clock.seconds[-1])
        plain.tokens.append(clock.tokens[-1])
    return {
        "model": Path(model).name,
        "steps": given.steps,
        "batch": given.batch,
        "threads": torch.get_num_threads(),
        "tokens": ours.tokens[-1],
        "plain_tokens": plain.tokens[-1],
        "ours_tokens_per_s": round(ours.best(), 1),
        "plain_tokens_per_s": round(plain.best(), 1),
        "ratio": round(ours.best() / plain.best(), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model folder or hub id")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=512, help="longer rows are left out")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        model = given.model or str(make_tiny_model(Path(root) / "tiny"))
        print(json.dumps(compare(model, Path(root), given)))


if __name__ == "__main__":
    main()
