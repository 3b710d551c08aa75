"""Secrets come from the environment alone: they are known there, taken out of every text, and
refused in files.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from reasondistill import secrets
from reasondistill.config import Cluster, EnvironmentSettings, OpenAISettings, SampledModel
from reasondistill.config.loading import load_cluster, make_pipeline
from reasondistill.errors import ConfigError
from reasondistill.foreign_text import ShownFormatter
from reasondistill.secrets import cleaned, found_in, found_in_shell, is_secret_name, masked

TOKEN = "hf_aB3dE6gH9kL2mN5pQ8rS"
PASSWORD = 'p&ss/"w+rd 42!'


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("DB_PASSWD", PASSWORD)
    secrets.look_again()
    yield
    monkeypatch.undo()
    secrets.look_again()


# ---- masking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [TOKEN, PASSWORD])
@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda secret: quote(secret, safe=""),
        lambda secret: json.dumps(secret),
        lambda secret: html.escape(secret),
        lambda secret: f"?a=1&key={quote(secret)}&b",
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(b"x" + secret.encode()).decode(),
        lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
        lambda secret: base64.b64encode(f"user:{secret}:and more".encode()).decode(),
    ],
)
def test_a_secret_is_masked_in_each_form_in_which_it_comes_back(
    secret: str, form: Callable[[str], str]
) -> None:
    echo = form(secret)
    clean = masked(f"Basic {echo}, that was it")
    assert secrets.MASK in clean and clean.startswith("Basic ") and clean.endswith(", that was it")
    inner = [echo[place : place + 10] for place in range(len(echo) - 10)]
    assert all(piece not in clean for piece in inner if piece not in "?a=1&key=")


def test_of_base64_nothing_of_the_secret_stays_at_its_ends() -> None:
    for before in range(6):
        text = base64.b64encode(b"u" * before + TOKEN.encode() + b"v" * 5).decode()
        assert masked(f"<{text}>") == "<***>"


def test_many_echoes_and_neighbours_are_all_masked() -> None:
    assert masked(f"{TOKEN}{TOKEN} x{PASSWORD}") == "****** x***"


def test_a_harmless_text_is_the_same_object() -> None:
    text = "We get 42 = 6 * 7, so \\boxed{42}."
    assert masked(text) is text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_KEY", "EMPTY"),
        ("API_KEY", "not-needed"),
        ("API_KEY", "1234567"),
        ("PIN_KEY", "123456789012"),
        ("DB_PASSWORD", "password"),
        ("TOKENIZERS_PARALLELISM", "false-or-true"),
        ("SSH_AUTH_SOCK", "/tmp/agent.123"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/hostname"),
        ("AUTH_URL", "https://login.example.com/a"),
    ],
)
def test_what_texts_hold_by_chance_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    secrets.look_again()
    assert masked(f"it is {value}.") == f"it is {value}."


@pytest.mark.parametrize(
    ("variable", "value", "secret"),
    [
        ("GH_PAT", "letters-only-here", "letters-only-here"),
        ("CI_JOB_TOKEN", "abc12345", "abc12345"),
        ("myApiKey", "zyxwvutsrq9", "zyxwvutsrq9"),
        ("HTTPS_PROXY", "http://me:plantedpass@proxy:3128", "plantedpass"),
        ("OPENAI_BASE_URL", "https://h/v1?api_key=planted-in-query", "planted-in-query"),
        ("WHATEVER", "ghp_0123456789abcdefABCDEF", "ghp_0123456789abcdefABCDEF"),
        ("TLS_KEY", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n", "MIIEvQIBADANBg"),
    ],
)
def test_the_environment_tells_what_is_a_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, secret: str
) -> None:
    monkeypatch.setenv(variable, value)
    secrets.look_again()
    assert masked(f"it is {secret}.") == "it is ***."


def test_a_variable_that_a_cluster_file_names_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVER", "opensesame77")
    secrets.look_again("MY_SERVER")
    assert masked("opensesame77") == "***"


def test_people_see_nobodys_key() -> None:
    assert cleaned("at https://me:pw@host:8/v1?api_key=x&n=1 with sk-proj-1234567890abc") == (
        "at https://***@host:8/v1?api_key=***&n=1 with ***"
    )


def test_log_lines_and_tracebacks_are_cleaned() -> None:
    try:
        raise ValueError(f"no {TOKEN}")
    except ValueError:
        record = logging.LogRecord("a", 20, "f", 1, "key %s", (TOKEN,), sys.exc_info())
    printed = ShownFormatter("%(message)s").format(record)
    assert TOKEN not in printed and printed.startswith("key ***")


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "GH_PAT",
        "DB_PASSWD",
        "DB_PASS",
        "PGPASSWORD",
        "api-key",
        "x-api-key",
        "Authorization",
        "apiKey",
        "AWS_ACCESS_KEY_ID",
        "WANDB_API_KEY",
        "MY_CREDENTIALS",
        "BASIC_AUTH",
        "MYTOKEN",
        "SENTRY_DSN",
        "key",
        "sig",
    ],
)
def test_a_name_says_that_it_holds_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "PWD",
        "OLDPWD",
        "TOKENIZERS_PARALLELISM",
        "max_tokens",
        "HF_TOKEN_PATH",
        "SSH_KEY_FILE",
        "KEYBOARD",
        "MONKEY",
        "SSH_AUTH_SOCK",
        "AUTHOR",
        "PASSENGER",
        "COMPASS",
        "PATTERN",
        "OMP_NUM_THREADS",
        "pass-through",
        "AUTH_TYPE",
    ],
)
def test_a_name_that_only_looks_so_holds_none(name: str) -> None:
    assert not is_secret_name(name)


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "export HF_TOKEN=hf_short",
        "export GH_PAT='abc'",
        'DB_PASSWD="a b" ./start',
        "huggingface-cli login --token abcdef",
        "curl -H 'Authorization: Bearer abcdefgh' http://host",
        "curl -H 'X-Api-Key: abc' http://host",
        "curl -u me:pw http://host",
        "git clone https://me:pw@github.com/a/b",
        "pip install --index-url https://token@pypi.example.com/simple x",
        "login ghp_0123456789abcdefABCDEF",
        "login AKIAIOSFODNN7EXAMPLE",
        "login xoxb-123456789012-abcdef",
        "login hf_aB3dE6gH9kL2mN5pQ8rS",
        "curl 'https://host/x?sig=abc'",
        "apptainer exec --env WANDB_API_KEY=abc x.sif",
    ],
)
def test_a_secret_in_shell_lines_is_refused(line: str) -> None:
    assert found_in_shell(line) is not None
    for key in ("setup", "modules"):
        with pytest.raises(ValidationError, match="environment alone|looks like a secret"):
            EnvironmentSettings.model_validate({key: [line]})
    with pytest.raises(ValidationError, match="environment alone|looks like a secret"):
        EnvironmentSettings(container=line)
    with pytest.raises(ValidationError, match="environment alone|looks like a secret"):
        Cluster.model_validate({"stages": {"default": {"options": [line]}}})


@pytest.mark.parametrize(
    "line",
    [
        "export HF_TOKEN=$MY_TOKEN",
        'export HF_TOKEN="$(cat ~/.token)"',
        "export HF_TOKEN=`pass show hf`",
        "export HF_TOKEN_PATH=/shared/token",
        "export HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
        "export TOKENIZERS_PARALLELISM=false",
        "module load cuda/12.4",
        "source /opt/venv/bin/activate",
        "apptainer exec --nv --bind /data:/data /shared/vllm.sif",
        "--exclusive",
        "--key-file /etc/key",
        "ssh -u me host",
        "unset HF_TOKEN",
        'curl -H "Authorization: Bearer $HF_TOKEN" http://host',
        "git clone git+ssh://git@github.com/a/b",
    ],
)
def test_what_only_names_a_secret_is_accepted(line: str) -> None:
    assert found_in_shell(line) is None
    EnvironmentSettings(setup=(line,))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWD", "x"),
        ("GH_PAT", "x"),
        ("MY_CREDENTIALS", "x"),
        ("DB_PASS", "x"),
        ("SERVER", "sk-proj-1234567890abc"),
        ("PIP_INDEX_URL", "https://me:pw@host/simple"),
        ("VLLM_ARGS", "--api-key abc"),
    ],
)
def test_secrets_among_the_variables_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EnvironmentSettings(variables={name: value})
    assert "variables" in str(caught.value.errors()[0]["msg"])


def test_variables_without_secrets_are_accepted() -> None:
    variables = {"TOKENIZERS_PARALLELISM": "false", "HF_TOKEN_PATH": "/shared/t", "HF_HOME": "/x"}
    assert EnvironmentSettings(variables=variables).variables == variables


@pytest.mark.parametrize(
    "section",
    [
        {"openai": {"base_url": "https://user:plantedpass@127.0.0.1:1/v1"}},
        {"openai": {"base_url": "https://127.0.0.1:1/v1?api_key=planted"}},
        {"openai": {"base_url": "https://127.0.0.1:1/v1?x=1&access_token=planted"}},
        {"storage": "s3://AKIAIOSFODNN7EXAMPLE:secret@bucket/runs"},
        {"storage": "https://host/runs?sig=planted"},
        {"ray": {"address": "ray://me:planted@head:10001"}},
        {"train": {"rollouts_url": "http://me:planted@host:8000"}},
        {"launcher": {"api_token": "planted"}},
        {"launcher": {"login": {"user": "me", "password": "planted"}}},
        {"launcher": {"headers": {"x": "Bearer ghp_0123456789abcdefABCDEF"}}},
        {"about": "with hf_aB3dE6gH9kL2mN5pQ8rS"},
    ],
)
def test_a_cluster_file_with_a_secret_is_refused_and_not_quoted(
    section: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(_toml(section))
    with pytest.raises(ConfigError) as caught:
        load_cluster(path)
    message = str(caught.value)
    assert "environment" in message or "shell" in message
    assert "planted" not in message.replace("plantedpass@", "") and "hf_a" not in message


def _toml(section: dict[str, object]) -> str:
    lines: list[str] = []
    for name, value in section.items():
        lines.append(f"{name} = {_inline(value)}")
    return "\n".join(lines)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = [f"{name} = {_inline(inner)}" for name, inner in value.items()]
        return "{ " + ", ".join(pairs) + " }"
    return json.dumps(value)


def test_base_url_says_what_to_do_instead() -> None:
    with pytest.raises(ValidationError, match="export OPENAI_BASE_URL"):
        OpenAISettings(base_url="https://user:plantedpass@host/v1")


@pytest.mark.parametrize(
    "override",
    [
        'traces.teachers.0.request={ extra_headers = { Authorization = "Bearer x" } }',
        'traces.teachers.0.request={ token = "x" }',
        'traces.teachers.0.template_options={ api_key = "x" }',
        'traces.teachers.0.request={ user = "sk-proj-1234567890abc" }',
        "problems.dataset=https://me:pw@host/data",
        "traces.teachers.0.model=https://host/model?token=abc",
        "about=with hf_aB3dE6gH9kL2mN5pQ8rS",
    ],
)
def test_a_pipeline_file_with_a_secret_is_refused(override: str) -> None:
    values: dict[str, object] = {
        "name": "a",
        "problems": {"source": "file", "dataset": "p.jsonl"},
        "traces": {"max_tokens": 9, "teachers": [{"model": "m", "sampler": "openai"}]},
    }
    with pytest.raises(ConfigError, match="secret|environment alone"):
        make_pipeline(values, [override], source=Path("file.toml"))


def test_fields_of_requests_that_are_no_secrets_are_sent() -> None:
    fields = {"prompt_cache_key": "a", "add_bos_token": True, "stop_token_ids": [1]}
    model = SampledModel(model="m", sampler="openai", request=fields)
    assert model.request == fields


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen3-8B",
        "org/sk-multilingual-corpus",
        "https://huggingface.co/datasets/openai/gsm8k?row=1",
        "s3://bucket/runs",
        "sftp://me@host/runs",
        "ray://head:10001",
        "What is 3 + 4? Ask me@example.com: yes",
    ],
)
def test_names_and_addresses_without_secrets_are_accepted(text: str) -> None:
    assert found_in(text) is None
