"""A chat template is somebody's program: it may use so much time, memory and text, and no more."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from tiny_model import make_tiny_model

from reasondistill.config.sampling import ModelSettings
from reasondistill.config.students import StudentSettings
from reasondistill.errors import ConfigError, StageError
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


# ---- the process, however the package is embedded ------------------------------------------------


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The next text starts a process, and the test ends it."""
    monkeypatch.setattr(rendering, "_WORKER", rendering._Worker())
    yield
    rendering._WORKER.close()


def pid_of_the_process() -> int:
    process = rendering._WORKER._process
    assert process is not None
    return process.pid


def is_gone(pid: int, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if status == "Z":
            return True
        time.sleep(0.05)
    return False


def a_python(folder: Path, body: str) -> str:
    """A file called python that does not start one."""
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_a_process_that_cannot_start_is_told_in_its_own_words(
    tokenizer: Any,
    anew: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    python = a_python(tmp_path, "echo no such library >&2; echo; exit 3")
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(StageError, match="cannot be started: exit code 3: no such library"):
        render(tokenizer, TURNS, {})
    monkeypatch.setattr(sys, "executable", a_python(tmp_path, "kill -9 $$"))
    with pytest.raises(StageError, match="cannot be started: SIGKILL"):
        render(tokenizer, TURNS, {})
    monkeypatch.undo()
    assert render(tokenizer, TURNS, {})
    assert capfd.readouterr() == ("", "")


def test_jinja2_that_the_process_does_not_find_is_told(
    tokenizer: Any, anew: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [path for path in rendering.import_paths() if "site-packages" not in path]
    monkeypatch.setattr(rendering, "import_paths", lambda: paths)
    with pytest.raises(StageError, match="No module named 'jinja2'"):
        render(tokenizer, TURNS, {})
    assert capfd.readouterr() == ("", "")


def test_a_process_that_somebody_ends_each_time_is_named(
    tokenizer: Any, anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged = rendering._exchanged

    def ended(channel: Any, data: bytes, deadline: float) -> bytes | None:
        os.kill(pid_of_the_process(), signal.SIGKILL)
        return exchanged(channel, data, deadline)

    monkeypatch.setattr(rendering, "_exchanged", ended)
    with pytest.raises(ConfigError, match="1,024 MiB.*or more than the machine has.*SIGKILL"):
        render(tokenizer, TURNS, {})


@pytest.mark.parametrize("name", ["", None, "/usr/bin/my-server"])
def test_a_program_that_embeds_python_is_not_started_again(
    tokenizer: Any, anew: None, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", name)
    assert "1 + 1?" in render(tokenizer, TURNS, {})


def test_a_frozen_program_renders_in_a_copy_of_itself_within_the_same_bounds(
    tokenizer: Any, anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "1 + 1?" in render(tokenizer, TURNS, {})
    pid = pid_of_the_process()
    monkeypatch.setenv("REASONDISTILL_MOST_TEMPLATE_SECONDS", "1")
    with pytest.raises(ConfigError, match="seconds of CPU"):
        render(tokenizer, TURNS, {"chat_template": LOOP})
    with pytest.raises(ConfigError, match="MiB"):
        render(tokenizer, TURNS, {"chat_template": HOSTILE["product"][0]})
    assert "1 + 1?" in render(tokenizer, TURNS, {})
    assert is_gone(pid)
    last = pid_of_the_process()
    rendering._WORKER.close()
    assert is_gone(last)


def test_forked_children_render_while_a_thread_of_their_parent_does(
    tokenizer: Any, anew: None
) -> None:
    is_over = threading.Event()
    long = [{"role": "user", "content": "x" * 1_000_000}]

    def go_on() -> None:
        while not is_over.is_set():
            render(tokenizer, long, {})

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        for _ in range(5):
            time.sleep(0.02)
            child = os.fork()
            if child == 0:
                os._exit(0 if "1 + 1?" in render(tokenizer, TURNS, {}) else 1)
            deadline = time.monotonic() + 60
            ended, status = os.waitpid(child, os.WNOHANG)
            while not ended and time.monotonic() < deadline:
                time.sleep(0.02)
                ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            assert ended and status == 0
    finally:
        is_over.set()
        thread.join()


OWNER = """
import os, sys, time
from transformers import AutoTokenizer
from reasondistill.models import rendering
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
rendering.render(tokenizer, [{"role": "user", "content": "1"}], {})
if sys.argv[2] == "fork":
    import ctypes  # a fork of C code, of which no handler of Python's hears
    if ctypes.PyDLL(None).fork() == 0:
        time.sleep(25)
        os._exit(0)
print(rendering._WORKER._process.pid, flush=True)
if sys.argv[2] != "end":
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
@pytest.mark.parametrize("how", ["end", "killed", "fork"])
def test_the_process_does_not_outlive_its_owner_and_is_silent(tokenizer: Any, how: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", OWNER, tokenizer.name_or_path, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None and owner.stderr is not None
    pid = int(owner.stdout.readline())
    if how != "end":
        owner.kill()
    owner.wait(60)
    assert is_gone(pid)
    if how != "fork":  # whose child holds the pipe
        errors = owner.stderr.read()
        assert "subprocess" not in errors and "socket" not in errors and "Broken" not in errors
    owner.stdout.close()
    owner.stderr.close()


def test_bounds_hold_where_the_owner_ignores_the_signal_of_time(
    tokenizer: Any, anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASONDISTILL_MOST_TEMPLATE_SECONDS", "1")
    monkeypatch.setattr(rendering, "_PATIENCE", 20)
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    try:
        with pytest.raises(ConfigError, match="seconds of CPU"):
            render(tokenizer, TURNS, {"chat_template": LOOP})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGPROF, before)


def test_jinja2_that_stands_in_no_folder_of_the_path_is_found(
    tokenizer: Any, anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [path for path in sys.path if "site-packages" not in path]
    monkeypatch.setattr(sys, "path", paths)
    assert "1 + 1?" in render(tokenizer, TURNS, {})


def test_templates_in_turns_are_each_rendered(tokenizer: Any) -> None:
    for _ in range(2):
        for letter in "aab":
            template = letter + "{{ messages[0].content }}"
            options = {"chat_template": template}
            assert render(tokenizer, TURNS[1:2], options) == f"{letter}1 + 1?\u2028"


# ---- what a template is told ---------------------------------------------------------------------


def test_a_template_is_named_as_transformers_names_it(tokenizer: Any) -> None:
    good = tokenizer.chat_template
    tokenizer.chat_template = {"default": "D{{ messages[0].content }}", "rag": "R{{ bos_token }}"}
    try:
        for options in ({}, {"chat_template": "rag"}, {"chat_template": "X{{ eos_token }}"}):
            theirs = tokenizer.apply_chat_template(
                TURNS, tokenize=False, add_generation_prompt=True, **options
            )
            assert render(tokenizer, TURNS, options) == theirs
    finally:
        tokenizer.chat_template = good


def test_an_option_that_no_template_is_told_is_refused_by_name(tokenizer: Any) -> None:
    names = set(inspect.signature(type(tokenizer).apply_chat_template).parameters)
    for name in (names - {"self", "kwargs", "chat_template"}) | {"messages"}:
        with pytest.raises(ValueError, match=f"template_options: {name} is no option"):
            ModelSettings(model="m", template_options={name: False})
        with pytest.raises(ValueError, match=f"template_options: {name} is no option"):
            StudentSettings(name="s", base="b", template_options={name: False})  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="chat_template has a key of its own"):
        StudentSettings(name="s", base="b", template_options={"chat_template": "x"})  # type: ignore[call-arg]
    ModelSettings(model="m", template_options={"enable_thinking": False, "chat_template": "rag"})
