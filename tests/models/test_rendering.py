"""A chat template is somebody's program: it may use so much time, memory and text, and no more."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from tiny_model import make_tiny_model

from reasondistill.errors import ConfigError
from reasondistill.models import rendering
from reasondistill.models.rendering import render
from reasondistill.models.tokenising import tokenise_prompt
from reasondistill.records import Message

TURNS = [
    {"role": "system", "content": "Think, \ud800 then <b>answer</b>."},
    {"role": "user", "content": "1 + 1?\u2028"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "And 'another'?"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    return AutoTokenizer.from_pretrained(folder)


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLED = "{% set n = namespace(x='ab') %}" + "{% set n.x = n.x ~ n.x %}" * 40 + "{{ n.x }}"
HOSTILE = {
    "loop": (LOOP, "seconds of CPU"),
    "recursion_of_loops": (
        "{% macro m(n) %}{% for i in range(9) %}{% if n %}{{ m(n - 1) }}{% endif %}{% endfor %}"
        "{% endmacro %}{{ m(12) }}",
        "seconds of CPU",
    ),
    "power": ("{{ 9 ** (9 ** 9) }}", "seconds of CPU"),
    "text": (
        "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "characters",
    ),
    "product": ("{{ 'x' * 10000000000 }}", "MiB"),
    "justified": ("{{ 'x'.ljust(10000000000) }}", "MiB"),
    "doubled": (DOUBLED, "MiB|seconds of CPU"),
    "list": ("{{ ([1] * 10000000000)[0] }}", "MiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_is_a_message_and_the_next_one_renders(
    tokenizer: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_TEMPLATE_SECONDS", "1")
    template, bound = HOSTILE[name]
    good = tokenizer.chat_template
    tokenizer.chat_template = template
    try:
        with pytest.raises(ConfigError, match=bound):
            render(tokenizer, TURNS[1:2], {})
    finally:
        tokenizer.chat_template = good
    assert "1 + 1?" in render(tokenizer, TURNS[1:2], {})


def test_a_prompt_of_such_a_template_is_a_config_error(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_TEMPLATE_SECONDS", "1")
    good = tokenizer.chat_template
    tokenizer.chat_template = LOOP
    try:
        with pytest.raises(ConfigError, match="chat template takes more than 1 seconds of CPU"):
            tokenise_prompt(tokenizer, [Message(role="user", content="1 + 1?")], plain=False)
    finally:
        tokenizer.chat_template = good


TEMPLATES = {
    "turns": "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "json": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}",
    "special": "{{ bos_token }}{{ eos_token }}{{ nothing }}{{ tools is none }}{{ documents }}",
    "option": "{% if deep is defined and deep %}deep {{ level + 1 }}{% endif %}{{ ratio }}",
    "generation": "{% for m in messages %}{% generation %}{% set x = 1 %}{{ m.content }}"
    "{% endgeneration %}{{ x }}{% endfor %}",
    "loops": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ loop.index }}"
    "{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "blocks": "  {%- if true %}\n  a\n  {% endif %}\n\n b \n",
    "escapes": "{{ '<&>' }}{{ messages[0].content | upper | e }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_that_of_transformers(tokenizer: Any, name: str) -> None:
    good = tokenizer.chat_template
    tokenizer.chat_template = TEMPLATES[name]
    options = {"deep": True, "level": 3, "ratio": 0.1}
    try:
        theirs = tokenizer.apply_chat_template(
            TURNS, tokenize=False, add_generation_prompt=True, **options
        )
        assert render(tokenizer, TURNS, options) == theirs
    finally:
        tokenizer.chat_template = good


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no system turn') }}", "{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{% if %}"],
)
def test_whatever_a_template_raises_is_a_refusal(tokenizer: Any, template: str) -> None:
    good = tokenizer.chat_template
    tokenizer.chat_template = template
    try:
        with pytest.raises(TemplateError):
            render(tokenizer, TURNS, {})
    finally:
        tokenizer.chat_template = good


def test_the_process_starts_anew_when_somebody_killed_it(tokenizer: Any) -> None:
    render(tokenizer, TURNS, {})
    process = rendering._WORKER._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert render(tokenizer, TURNS, {})
    assert rendering._WORKER._process is not process


def test_an_answer_that_nobody_took_is_not_the_next_ones(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int, deadline: float) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rendering, "_read_message", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render(tokenizer, [{"role": "user", "content": "first"}], {})
    text = render(tokenizer, [{"role": "user", "content": "second"}], {})
    assert "second" in text and "first" not in text


def test_nothing_of_the_working_directory_is_imported(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("jinja2", "json", "struct"):
        (tmp_path / f"{name}.py").write_text("open('PWNED', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rendering, "_WORKER", rendering._Worker())
    render(tokenizer, TURNS, {})
    assert not (tmp_path / "PWNED").exists()


def test_a_render_takes_a_fraction_of_a_millisecond_more(tokenizer: Any) -> None:
    render(tokenizer, TURNS, {})
    began = time.process_time()
    for _ in range(200):
        render(tokenizer, TURNS, {})
    assert (time.process_time() - began) / 200 < 0.005
