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
    r"(?:^|\s)\d{1,3}%\|.{0,200}\|\s*[\d.,kMG]+/[\d.,kMG?]+(?:\s*\[[^\]]{0,120}\])?|"
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
    # Ray: `2026-12-01 04:07:26,869\tINFO worker.py:1234 -- …`; others have no place and no dashes
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\s+(?:DEBUG|INFO|WARNING) [\w/.-]+\.py:\d+ -- |"
    r"\[Gloo\] Rank \d+ is connected to \d+ peer ranks|"
    r"\[transformers\] (?:Warning|INFO|WARNING)\b|"
    # DeepSpeed: `[2026-12-01 04:07:26,869] [INFO] [comm.py:637:init_distributed] …`
    r"\[\d{4}-\d\d-\d\d [\d:,]+\] \[(?:DEBUG|INFO|WARNING)\] \[[\w/.-]+\.py:\d+:"
    r")"
)
# How bars below each other move the cursor, as text (`foreign_text.shown`); a word beside that.
_MOVES = re.compile(r"\\x1b\[[0-9;]*[A-Za-z]")
_WORD = re.compile(r"\w")
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


def behind_bar(line: str) -> str:
    """What somebody printed behind an unfinished progress bar, which ends no line: the first line
    of a traceback, perhaps. Empty where the bar is all.
    """
    end = 0
    for bar in _BAR.finditer(line[:_LOOKED_AT]):
        end = bar.end()
    rest = line[end:]
    # Of a bar that is not whole, or whose own brackets hold brackets, nobody knows the end.
    is_whole = end > 0 and line[end - 1] == "]" and not rest.startswith((",", "]"))
    if is_whole and _WORD.search(_MOVES.sub("", rest)):
        return rest
    return ""


def quiet_libraries(variables: MutableMapping[str, str]) -> None:
    """Let libraries draw no progress bars in a process with these variables, unless they say
    otherwise; with `--verbose` let vLLM talk.
    """
    if is_verbose():
        variables.setdefault("VLLM_LOGGING_LEVEL", "INFO")
        return
    for name, value in _BARS_OFF.items():
        variables.setdefault(name, value)
