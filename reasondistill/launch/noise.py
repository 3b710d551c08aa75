"""What engines and libraries print beside what a task says: progress bars, and their own log lines
below an error. It stays out of a stage's log; the last of it is told when a task crashes.

    noise_of("Loading weights: 100%|██████| 20/20 [00:00<00:00, 20380.49it/s]")   # "bar"
    noise_of("INFO 12-01 04:07:26 [core.py:58] Initializing a V1 LLM engine")      # "talk"
    noise_of("ERROR 12-01 04:07:26 [core.py:600] EngineCore failed to start")      # None

Unless `REASONDISTILL_VERBOSE` is set (`--verbose`), which keeps all of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from typing import Literal

# Keeps in the logs of tasks what engines and libraries print.
VERBOSE = "REASONDISTILL_VERBOSE"
# tqdm's: `name:  40%|████      | 8/20 [00:00<00:01, 9.5it/s]`, `8it [00:00, 9.5it/s]`; rich's and
# pip's bars are drawn on terminals alone.
_BAR = re.compile(
    r"(?:^|\s)\d{1,3}%\|.{0,200}\|\s*[\d.,kMG]+/[\d.,kMG?]+|"
    r"\d+\s?\w{0,12}\s\[\d\d:\d\d(?::\d\d)?(?:<[^\]]{0,20})?,[^\]]{0,40}/\w+[^\]]{0,80}\]"
)
# Behind the names of processes and ranks: `(EngineCore_DP0 pid=71) `, `[rank0]:`.
_WHO = r"(?:\([\w .,:=/-]{1,60}\)\s*|\[rank\d+\]:\s*)*"
_TALK = re.compile(
    rf"{_WHO}(?:"
    # vLLM: `INFO 12-01 04:07:26 [core.py:58] …`
    r"(?:DEBUG|INFO|WARNING) \d\d-\d\d \d\d:\d\d:\d\d \[|"
    # glog, of torch and others: `W1201 04:07:26.869000 4155 torch/distributed/…] …`
    r"[IW]\d{4} \d\d:\d\d:\d\d\.\d{3,} |"
    # Ray and what logs like it: `2026-12-01 04:07:26,869\tINFO worker.py:1234 -- …`
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\s+(?:DEBUG|INFO|WARNING)\b|"
    r"\[Gloo\] Rank \d+ is connected to \d+ peer ranks|"
    r"\[transformers\] (?:Warning|INFO|WARNING)\b|"
    r"\[\d{4}-\d\d-\d\d [\d:,]+\] \[(?:DEBUG|INFO|WARNING)\]"
    r")"
)
# Of a line, to decide what it is.
_LOOKED_AT = 500
_BARS_OFF = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

Noise = Literal["bar", "talk"]


def is_verbose() -> bool:
    """Whether whoever started this wants all that libraries print."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def noise_of(line: str) -> Noise | None:
    """What kind of noise a line of a task is; None for one that is kept."""
    beginning = line[:_LOOKED_AT]
    if _BAR.search(beginning):
        return "bar"
    if _TALK.match(beginning):
        return "talk"
    return None


def quiet_libraries(variables: MutableMapping[str, str]) -> None:
    """Let libraries draw no progress bars in a process with these variables, unless they say
    otherwise; with `--verbose` let vLLM talk.
    """
    if is_verbose():
        variables.setdefault("VLLM_LOGGING_LEVEL", "INFO")
        return
    for name, value in _BARS_OFF.items():
        variables.setdefault(name, value)
