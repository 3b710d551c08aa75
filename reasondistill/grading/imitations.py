"""Graders of others, imitated from their published rules so that numbers can be translated. They
reproduce mistakes on purpose.
"""

from __future__ import annotations

import re

from reasondistill.grading.clean import matching_brace
from reasondistill.grading.equivalence import Decision
from reasondistill.grading.policies import Policy


def decide(pred: str, gold: str, policy: Policy) -> Decision:
    """The decision of the grader that the policy's engine names. Runs in a worker."""
    same = _ENGINES[policy.engine](pred, gold)
    return Decision("correct" if same else "wrong", policy.engine, "imitation")


def like_math_verify(pred: str, gold: str) -> bool:
    """math-verify on the boxed answers, gold first, six decimals."""
    from reasondistill.grading import symbolic

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
    key = (
        text.replace("\n", "")
        .replace("\\!", "")
        .replace("\\\\", "\\")
        .replace("tfrac", "frac")
        .replace("dfrac", "frac")
    )
    key = (
        key.replace("\\left", "")
        .replace("\\right", "")
        .replace("^{\\circ}", "")
        .replace("^\\circ", "")
        .replace("\\$", "")
    )
    key = key.split("\\text{ ")[0] if key.count("\\text{ ") == 1 else key
    key = key.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    key = "0" + key if key.startswith(".") else key
    name, equals, value = key.partition("=")
    key = value if equals and "=" not in value and len(name.strip()) <= 2 else key
    key = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", key).replace(" ", "")
    key = re.sub(r"\\frac(\w)(\w)", r"\\frac{\1}{\2}", key)
    key = re.sub(r"\\frac(\w)\{", r"\\frac{\1}{", key)
    key = "\\frac{1}{2}" if key == "0.5" else key
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", key)


def like_qwen(pred: str, gold: str) -> bool:
    """Qwen2.5-Math's `math_equal`: case-blind strings; numbers within 1e-4 of the gold, its
    hundredth or its hundredfold; else sympy.
    """
    from reasondistill.grading import symbolic

    a, b = _qwen_strip(pred), _qwen_strip(gold)
    if a.lower() == b.lower():
        return True
    first, second = _float(a), _float(b)
    if first is not None and second is not None:
        return any(
            abs(first - item) <= 1e-4 * max(abs(first), abs(item))
            for item in (second / 100, second, second * 100)
        )
    if not a or symbolic.bomb(a) or symbolic.bomb(b):
        return False
    if _within(a, b):
        return True
    if a[0] in "([" and b[0] in "([" and a.count(",") == b.count(",") > 0:
        return all(
            like_qwen(x, y) for x, y in zip(a[1:-1].split(","), b[1:-1].split(","), strict=True)
        )
    if a.count("=") == b.count("=") == 1:
        (left_a, right_a), (left_b, right_b) = a.split("="), b.split("=")
        return symbolic.same(f"{left_a}-({right_a})", f"{left_b}-({right_b})")
    return symbolic.same(a.split("=")[-1], b.split("=")[-1])


def _within(a: str, b: str) -> bool:
    """Two numeric expressions within Qwen's relative 1e-4."""
    from reasondistill.grading import evaluate
    from reasondistill.grading.syntax import Unsupported, parse

    try:
        first, second = evaluate.real_value(parse(a)), evaluate.real_value(parse(b))
    except Unsupported:
        return False
    return bool(abs(first - second) <= 1e-4 * max(abs(first), abs(second)))


def _qwen_strip(text: str) -> str:
    key = (
        text.strip()
        .replace("\n", "")
        .rstrip(".")
        .replace("\\!", "")
        .replace("tfrac", "frac")
        .replace("dfrac", "frac")
    )
    key = (
        key.replace("\\left", "")
        .replace("\\right", "")
        .replace("{", "{")
        .replace("^{\\circ}", "")
        .replace("^\\circ", "")
    )
    key = (
        key.replace("\\$", "")
        .replace("$", "")
        .replace("\\%", "%")
        .replace("\\(", "")
        .replace("\\)", "")
    )
    while (start := key.find("\\text{")) >= 0 and (end := matching_brace(key, start + 5)) > 0:
        inner = key[start + 6 : end]
        key = (
            key[:start]
            + ("" if key[:start].strip() and key[start - 1].isdigit() else inner)
            + key[end + 1 :]
        )
    name, equals, value = key.partition("=")
    key = value if equals and "=" not in value and len(name.strip()) <= 2 else key
    return key.replace(" ", "")


def _float(text: str) -> float | None:
    plain = text.replace(",", "")
    try:
        return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)
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
    from math_verify import LatexExtractionConfig, parse, verify

    from reasondistill.grading import symbolic

    if re.fullmatch(r"[A-J]", gold.strip()) and re.fullmatch(r"\(?([A-J])\)?\.?", pred.strip()):
        return gold.strip() in pred
    a, b = (_DROPPED.sub("", text).strip().rstrip(".") for text in (pred, gold))
    key_a, key_b = hendrycks_key(a).replace(",", ""), hendrycks_key(b).replace(",", "")
    if key_a == key_b:
        return True
    if (
        (_TEXT_OR_NUMBER.fullmatch(key_a) and _TEXT_OR_NUMBER.fullmatch(key_b))
        or symbolic.bomb(a)
        or symbolic.bomb(b)
    ):
        return False
    first, second = (
        parse(
            text if _DELIMITED.search(text) else f"${text}$",
            [LatexExtractionConfig()],
            parsing_timeout=None,  # type: ignore[arg-type]
        )
        for text in (b, a)
    )
    return bool(verify(first, second, timeout_seconds=None))


_ENGINES = {
    "math-verify": like_math_verify,
    "hendrycks-string": like_hendrycks,
    "qwen-math": like_qwen,
    "nemo-skills": like_nemo,
}
