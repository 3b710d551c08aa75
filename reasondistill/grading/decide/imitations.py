"""Graders of others, imitated from their published rules so that numbers can be translated. They
reproduce mistakes on purpose. Which version each imitates stands in `policies.py`; all take our
extraction, and all are refused the constructs on which sympy runs away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isclose
from typing import Any

from reasondistill.grading.policies import Engine


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
    """Qwen2.5-Math's `math_equal` behind its `strip_string`: case-blind strings, numbers within a
    relative 1e-4 of the gold, its hundredth or its hundredfold, lists and matrices part by part,
    then sympy.

    Not imitated: its list of unit words, numbers in words, and sympy's own reader of LaTeX, for
    which math-verify's stands.
    """
    return _qwen_equal(qwen_key(pred), qwen_key(gold))


def _qwen_equal(a: str, b: str) -> bool:
    from reasondistill.grading.decide import symbolic

    if a.lower() == b.lower():
        return True
    if b in ("A", "B", "C", "D", "E") and _last_choice(a) == b:
        return True
    first = _float(a)
    second = _float(b)
    if first is not None and second is not None:
        near = (second / 100, second, second * 100)
        return any(isclose(first, item, rel_tol=1e-4) for item in near)
    if not a:
        return False
    if _without_brackets(a).lower() == _without_brackets(b).lower():
        return True
    if _LISTED.match(a) and _LISTED.match(b):
        return _qwen_parts_equal(a[1:-1].split(","), b[1:-1].split(","))
    matrix_a = _MATRIX.fullmatch(a)
    matrix_b = _MATRIX.fullmatch(b)
    if matrix_a is not None and matrix_b is not None:
        return _qwen_parts_equal(_entries(matrix_a[1]), _entries(matrix_b[1]))
    if symbolic.bomb(a) or symbolic.bomb(b):
        return False
    if a.count("=") == b.count("=") == 1:
        difference_a = _as_difference(a)
        difference_b = _as_difference(b)
        if _qwen_symbolic(difference_a, difference_b):
            return True
        return _qwen_symbolic(f"-({difference_a})", difference_b)
    if "=" not in b and _is_named(a):
        return _qwen_equal(a.partition("=")[2], b)
    if "=" not in a and _is_named(b):
        return _qwen_equal(a, b.partition("=")[2])
    return _qwen_symbolic(a, b)


def _qwen_parts_equal(a: Sequence[str], b: Sequence[str]) -> bool:
    if len(a) != len(b):
        return False
    return all(_qwen_equal(x, y) for x, y in zip(a, b, strict=True))


def _entries(rows: str) -> list[str]:
    """The entries of a matrix, and a line end behind each row."""
    entries: list[str] = []
    for row in rows.split("\\\\"):
        if row.strip():
            entries += [*row.split("&"), "\\\\"]
    return entries


def _qwen_symbolic(a: str, b: str) -> bool:
    from reasondistill.grading.decide import symbolic

    return _are_near(a, b) or symbolic.same(a, b)


def _are_near(a: str, b: str) -> bool:
    """Two numeric expressions within Qwen's relative 1e-4."""
    from reasondistill.grading.decide import evaluate
    from reasondistill.grading.read.syntax import Unsupported, parse

    try:
        first = evaluate.real_value(parse(a))
        second = evaluate.real_value(parse(b))
    except Unsupported:
        return False
    return isclose(float(first), float(second), rel_tol=1e-4)


def _is_named(equation: str) -> bool:
    """`x = 5`, as Qwen sees it: one sign, and at most two letters before it."""
    name, _, _ = equation.partition("=")
    return equation.count("=") == 1 and len(name) <= 2


def _as_difference(equation: str) -> str:
    left, _, right = equation.partition("=")
    return f"{left} - ({right})"


def _last_choice(text: str) -> str | None:
    letters = re.findall(r"\b[A-E]\b", text.upper())
    if not letters:
        return None
    return letters[-1]


def _without_brackets(text: str) -> str:
    return re.sub(r"[{}()]", "", text)


_LISTED = re.compile(r"[(\[].+[)\]]")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)


def qwen_key(text: str) -> str:
    """The string that Qwen compares: no spaces, percent signs, degrees or units in `\\text` at the
    end; `x = 5` as 5, `5.00` as 5, `a/b` as a fraction.
    """
    key = text.strip().replace("\n", "").rstrip(".").replace("\\!", "")
    key = key.replace("bmatrix", "pmatrix").replace("tfrac", "frac").replace("dfrac", "frac")
    key = key.replace("\\left", "").replace("\\right", "")
    key = key.replace("\\{", "{").replace("\\}", "}")
    without_unit = re.sub(r"\\text\{.*?\}\Z", "", key).strip()
    if without_unit:
        key = without_unit
    key = key.replace("^{\\circ}", "").replace("^\\circ", "")
    key = key.replace("\\$", "").replace("$", "").replace("\\(", "").replace("\\)", "")
    key = re.sub(r"\\text\{(.*?)\}", r"\1", key)
    key = re.sub(r"[xyz](?:=|\\in|\\to)", "", key)
    key = key.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    key = key.replace("and", "").replace("\\mathbf", "")
    if "j" in key and "i" not in key:
        key = key.replace("j", "i")
    key = re.sub(r"(\d)\.0*(?=\D|\Z)", r"\1", key)
    if key.startswith("."):
        key = "0" + key
    key = _without_short_name(key)
    key = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", key).replace(" ", "")
    key = re.sub(r"\\frac(\w)(\w)", r"\\frac{\1}{\2}", key)
    key = re.sub(r"\\frac(\w)\{", r"\\frac{\1}{", key)
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", key)


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


_PERCENTAGE = re.compile(r"(\d+\.?\d*)\\?%")
_TEXT = re.compile(r"[a-zA-Z ,]+")
_DELIMITED = re.compile(r"\$.*\$|\\\(.*\\\)|\\\[.*\\\]|\\boxed\{", re.DOTALL)
_CHOICES = tuple("ABCDEFGHIJ")


def like_nemo(pred: str, gold: str) -> bool:
    """NeMo-Skills' `math_equal`: choice letters; strings behind math-verify's normaliser, which
    decide texts; numbers and all else by math-verify, so that 016 is 16.
    """
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from math_verify import LatexExtractionConfig, StringExtractionConfig, verify

    from reasondistill.grading.decide import symbolic

    if gold.strip() in _CHOICES:
        letters = StringExtractionConfig(strings=_CHOICES)
        if verify(_parsed(gold, letters), _parsed(pred, letters), timeout_seconds=None):
            return True
    a = _nemo_trimmed(pred)
    b = _nemo_trimmed(gold)
    if symbolic.bomb(a) or symbolic.bomb(b):
        return False
    basic = NormalizationConfig()
    key_a = normalize_latex(a, basic)
    key_b = normalize_latex(b, basic)
    if key_a.replace(" ", "") == key_b.replace(" ", ""):
        return True
    if _TEXT.fullmatch(key_a) and _TEXT.fullmatch(key_b):
        return False
    formulas = LatexExtractionConfig()
    parsed_a = _parsed(_as_formula(a), formulas)
    parsed_b = _parsed(_as_formula(b), formulas)
    return bool(verify(parsed_b, parsed_a, timeout_seconds=None))


def _nemo_trimmed(text: str) -> str:
    """A number without its percent sign, and no full stop at the end."""
    percentage = _PERCENTAGE.fullmatch(text)
    if percentage is not None:
        text = percentage[1]
    return text.rstrip(".\\")


def _as_formula(text: str) -> str:
    if _DELIMITED.search(text):
        return text
    return f"${text}$"


def _parsed(text: str, config: Any) -> list[Any]:
    from math_verify import parse

    return parse(text, [config], parsing_timeout=None)  # type: ignore[arg-type]


_ENGINES = {
    "math-verify": like_math_verify,
    "hendrycks-string": like_hendrycks,
    "qwen-math": like_qwen,
    "nemo-skills": like_nemo,
}
