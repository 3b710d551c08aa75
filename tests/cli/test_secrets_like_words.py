"""Variables whose values read like our own fields, ids and names: nothing of a run's structure is
masked, whatever stands in the environment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_server import FAULTS, Body, FaultyServer, Reply, good, question_of
from same_records import differences
from warm import forking

TEACHER = "teacher-of-the-seven-seas"
PIPELINE = f"""\
name = "words"
[problems]
source = "file"
dataset = "problems.jsonl"
question = "question_text"
answer = "reference_answer"
[traces]
prompt = "question"
n = 2
max_tokens = 50
[[traces.teachers]]
model = "{TEACHER}"
sampler = "openai"
[examples]
export = ["messages", "sharegpt", "prompt_completion"]
require_boxed = false
"""
ENVIRONMENTS = [
    {
        "PRIMARY_KEY": "problem_id",
        "SORT_KEY": "question_id",
        "EOS_TOKEN": "<|im_end|>",
        "PARTITION_KEY": "answer_text",
        "ANSWER_KEY": "the answer is",
        "OPENAI_API_KEY": TEACHER,
    },
    # Certainly secrets, and names of fields, columns and ids.
    {
        "OPENAI_API_KEY": "problems/train/3",
        "HF_TOKEN": "problem_id",
        "DB_PASSWORD": "answer_text",
        "A_PASSWORD": "question_text",
        "B_PASSWORD": "prompt_tokens",
        "C_PASSWORD": "fingerprint",
        "D_PASSWORD": "environment",
        "E_PASSWORD": "conversations",
    },
]

pytestmark = pytest.mark.timeout(1800)


def echo(body: Body) -> Reply:
    number = question_of(body).split()[-1].strip("?")
    return good(content=f"So it is \\boxed{{{number}}}.", model=str(body["model"]))(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    server = FaultyServer()
    monkeypatch.setitem(FAULTS, "echo", echo)
    server.fault = "echo"
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    yield server
    server.close()


def run(folder: Path, name: str) -> Path:
    words = ("run", "words.toml", "--set", f"name={name}", "--until", "examples")
    done = forking().run(*words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs" / name


def test_a_run_is_the_same_whatever_words_stand_in_secret_variables(
    tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question_text": f"Say {i}?", "reference_answer": str(i)} for i in range(6)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "problems.jsonl").write_text("".join(lines))
    (tmp_path / "words.toml").write_text(PIPELINE)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789-abcdefghij")
    plain = run(tmp_path, "plain")
    for number, variables in enumerate(ENVIRONMENTS):
        with monkeypatch.context() as context:
            for name, value in variables.items():
                context.setenv(name, value)
            words = run(tmp_path, f"words{number}")
            results = dict(differences(words, plain))
            assert set(results.values()) == {"same"}, results
        assert (words / "4-examples" / "exports" / "sharegpt.train.jsonl").read_text() == (
            plain / "4-examples" / "exports" / "sharegpt.train.jsonl"
        ).read_text()
        assert "***" not in (words / "2-traces" / "servers.jsonl").read_text()
        assert "***" not in (words / "2-traces" / "manifest.json").read_text()
        assert "***" not in (words / "run.json").read_text()
