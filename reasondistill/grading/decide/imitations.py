"""Graders of others, imitated from their published rules so that numbers can be translated. They
reproduce mistakes on purpose.
"""

from __future__ import annotations

import re
from typing import Any

from reasondistill.grading.policies import Engine
from reasondistill.grading.read.clean import matching_brace


def are_same(pred: str, gold: str, engine: Engine) -> bool:
    """What the grader that an engine imitates says of two answers. Runs in a worker."""
    return _ENGINES[engine](pred, gold)


def like_math_verify(pred: str, gold: str) -> bool:
    """math-verify on the boxed answers, gold first, six decimals."""
    from reasondistill.grading.decide import symbolic

    return symbolic.same_as_lighteval(pred, gold)


def like_hendrycks(pred: str, gold: str) -> bool:
    """Equality of strings after the normaliser of Hendrycks et al. 2021 (MATH), which Evalchemy and
    lm-eval use.
    """
    return hendrycks_key(pred) == hendrycks_key(gold)


def hendrycks_key(text: str) -> str:
    """The normalised string: no spaces, units on the right cut, `\\frac` with braces, `0.5` as
    `\\frac{1}{2}`, `x = 5` as `5`.
    """
    key = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    key = key.replace("tfrac", "frac").replace("dfrac", "frac")
    key = key.replace("\\left", "").replace("\\right", "")
    key = key.replace("^{\\circ}", "").replace("^\\circ", "").replace("\\$", "")
    if key.count("\\text{ ") == 1:
        key = key.split("\\text{ ")[0]
    key = key.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    if key.startswith("."):
        key = "0" + key
    key = _without_short_name(key)
    key = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", key).replace(" ", "")
    key = re.sub(r"\\frac(\w)(\w)", r"\\frac{\1}{\2}", key)
    key = re.sub(r"\\frac(\w)\{", r"\\frac{\1}{", key)
    if key == "0.5":
        key = "\\frac{1}{2}"
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", key)


def _without_short_name(key: str) -> str:
    """`x = 5` is 5."""
    name, equals, value = key.partition("=")
    if equals and "=" not in value and len(name.strip()) <= 2:
        return value
    return key


def like_qwen(pred: str, gold: str) -> bool:
    """Qwen2.5-Math's `math_equal`: case-blind strings; numbers within 1e-4 of the gold, its
    hundredth or its hundredfold; else sympy.
    """
    from reasondistill.grading.decide import symbolic

    a = _qwen_strip(pred)
    b = _qwen_strip(gold)
    if a.lower() == b.lower():
        return True
    first = _float(a)
    second = _float(b)
    if first is not None and second is not None:
        return any(_is_near(first, item) for item in (second / 100, second, second * 100))
    if not a or symbolic.bomb(a) or symbolic.bomb(b):
        return False
    if _within(a, b):
        return True
    commas = a.count(",")
    if a[0] in "([" and b[0] in "([" and commas == b.count(",") > 0:
        pairs = zip(a[1:-1].split(","), b[1:-1].split(","), strict=True)
        return all(like_qwen(x, y) for x, y in pairs)
    if a.count("=") == b.count("=") == 1:
        left_a, right_a = a.split("=")
        left_b, right_b = b.split("=")
        return symbolic.same(f"{left_a}-({right_a})", f"{left_b}-({right_b})")
    return symbolic.same(a.split("=")[-1], b.split("=")[-1])


def _is_near(a: Any, b: Any) -> bool:
    """Qwen's relative 1e-4."""
    return bool(abs(a - b) <= 1e-4 * max(abs(a), abs(b)))


def _within(a: str, b: str) -> bool:
    """Two numeric expressions within Qwen's relative 1e-4."""
    from reasondistill.grading.decide import evaluate
    from reasondistill.grading.read.syntax import Unsupported, parse

    try:
        first = evaluate.real_value(parse(a))
        second = evaluate.real_value(parse(b))
    except Unsupported:
        return False
    return _is_near(first, second)


def _qwen_strip(text: str) -> str:
    key = text.strip().replace("\n", "").rstrip(".").replace("\\!", "")
    key = key.replace("tfrac", "frac").replace("dfrac", "frac")
    key = key.replace("\\left", "").replace("\\right", "")
    key = key.replace("^{\\circ}", "").replace("^\\circ", "")
    key = key.replace("\\$", "").replace("$", "").replace("\\%", "%")
    key = key.replace("\\(", "").replace("\\)", "")
    while True:
        start = key.find("\\text{")
        if start < 0:
            break
        end = matching_brace(key, start + 5)
        if end <= 0:
            break
        before = key[:start]
        inner = key[start + 6 : end]
        if before.strip() and before[-1].isdigit():  # a unit
            inner = ""
        key = before + inner + key[end + 1 :]
    return _without_short_name(key).replace(" ", "")


def _float(text: str) -> float | None:
    plain = text.replace(",", "")
    try:
        if plain.endswith("%"):
            return float(plain[:-1]) / 100
        return float(plain)
    except ValueError:
        return None


_DROPPED = re.compile(
    r"\^\s*\{?\s*\\circ\s*\}?|\\(?:%|\$|left|right|!|,|;)|%|(?<=\d)\s*(?:degrees|percent)\b"
)
_TEXT_OR_NUMBER = re.compile(r"[a-zA-Z ,]+|-?[\d,]+(?:\.\d+)?")
_DELIMITED = re.compile(r"\$.*\$|\\\(.*\\\)|\\\[.*\\\]|\\boxed\{", re.DOTALL)


def like_nemo(pred: str, gold: str) -> bool:
    """NeMo-Skills' `math_equal`: choice letters; strings without percent signs, which decide texts
    and numbers; else math-verify.
    """
    from math_verify import verify

    from reasondistill.grading.decide import symbolic

    letter = gold.strip()
    if re.fullmatch(r"[A-J]", letter) and re.fullmatch(r"\(?([A-J])\)?\.?", pred.strip()):
        return letter in pred
    a = _DROPPED.sub("", pred).strip().rstrip(".")
    b = _DROPPED.sub("", gold).strip().rstrip(".")
    key_a = hendrycks_key(a).replace(",", "")
    key_b = hendrycks_key(b).replace(",", "")
    if key_a == key_b:
        return True
    if _TEXT_OR_NUMBER.fullmatch(key_a) and _TEXT_OR_NUMBER.fullmatch(key_b):
        return False
    if symbolic.bomb(a) or symbolic.bomb(b):
        return False
    return bool(verify(_nemo_parsed(b), _nemo_parsed(a), timeout_seconds=None))


def _nemo_parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    if not _DELIMITED.search(text):
        text = f"${text}$"
    return parse(text, [LatexExtractionConfig()], parsing_timeout=None)  # type: ignore[arg-type]


_ENGINES = {
    "math-verify": like_math_verify,
    "hendrycks-string": like_hendrycks,
    "qwen-math": like_qwen,
    "nemo-skills": like_nemo,
}
