"""What kind of answer a gold is, with its formulas read: a value, an equation, a list, pairs, an
interval, a matrix, words, a date …; and golds to start from, built in and from files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from formulas import PLAIN, Node, Style, Unreadable, read_formula, surely_different, write

RELATIONS = {
    "\\leqslant": "\\le",
    "\\geqslant": "\\ge",
    "\\leq": "\\le",
    "\\geq": "\\ge",
    "\\le": "\\le",
    "\\ge": "\\ge",
    "<": "<",
    ">": ">",
    "\\neq": "\\ne",
    "\\ne": "\\ne",
}
_RELATION = re.compile(r"\\[lg]eqslant|\\[lg]eq?(?![a-z])|\\neq?(?![a-z])|[<>]")


@dataclass(frozen=True)
class Answer:
    """An answer and its parts.

    `kind`: value (one formula), equation (`left` = formula), relation (`left` op formula), list,
    set, tuple, interval (two ends in `brackets`), union (intervals), matrix (`columns`, entries in
    rows), quantity (number and `unit`), words, choice, date, logic, raw. A formula stands in
    `tree`, parts in `items`.
    """

    kind: str
    text: str
    tree: Node | None = None
    items: tuple[Answer, ...] = ()
    left: str = ""
    op: str = ""
    brackets: str = ""
    columns: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Gold:
    """A published answer as it stands, and what it is read as."""

    id: str
    text: str
    answer: Answer


def spell(answer: Answer, style: Style = PLAIN) -> str:
    """The answer in LaTeX."""
    parts = [spell(item, style) for item in answer.items]
    match answer.kind:
        case "value" if answer.tree is not None:
            return write(answer.tree, style)
        case "equation" if answer.tree is not None:
            return f"{answer.left}={write(answer.tree, style)}"
        case "relation" if answer.tree is not None:
            return f"{answer.left} {answer.op} {write(answer.tree, style)}"
        case "quantity" if answer.tree is not None:
            return f"{write(answer.tree, style)}{answer.unit}"
        case "list":
            return ", ".join(parts)
        case "set":
            return f"\\{{{', '.join(parts)}\\}}"
        case "tuple":
            return _enclosed("(", ", ".join(parts), ")", style)
        case "interval":
            return _enclosed(answer.brackets[0], ", ".join(parts), answer.brackets[1], style)
        case "union":
            return " \\cup ".join(parts)
        case "matrix":
            columns = answer.columns
            rows = [parts[i : i + columns] for i in range(0, len(parts), columns)]
            body = " \\\\ ".join(" & ".join(row) for row in rows)
            return f"\\begin{{pmatrix}} {body} \\end{{pmatrix}}"
        case _:
            return answer.text


def _enclosed(opening: str, inner: str, closing: str, style: Style) -> str:
    if style.left_right:
        return f"\\left{opening}{inner}\\right{closing}"
    return f"{opening}{inner}{closing}"


def of_value(tree: Node) -> Answer:
    """A formula as an answer."""
    return Answer("value", write(tree), tree)


def read_answer(latex: str, kind: str = "") -> Answer:
    """The answer that a gold is; `kind` where the reader of a benchmark knows it (words, choice,
    date, logic, quantity). What is not understood has the kind raw.
    """
    text = latex.replace("$", "").strip().removesuffix(".").strip()
    if kind in ("words", "choice", "date", "logic", "raw"):
        return Answer(kind, text)
    try:
        return _read(text)
    except Unreadable:
        return Answer("raw", text)


def _read(text: str) -> Answer:
    bare = re.sub(r"\\left(?![a-z])|\\right(?![a-z])|\\displaystyle", "", text).strip()
    if "\\begin" in bare:
        return _matrix(bare)
    if "\\cup" in bare:
        items = tuple(_read(part.strip()) for part in bare.split("\\cup"))
        return _only(Answer("union", text, items=items), ("interval", "set"))
    outside = split_top(bare, ",")
    if len(outside) > 1:
        items = tuple(_read(part) for part in outside)
        return _only(Answer("list", text, items=items), ("value", "equation", "tuple"))
    enclosed = re.fullmatch(r"(\\?[(\[{])(.*?)(\\?[)\]}])", bare, re.DOTALL)
    if enclosed and len(split_top(enclosed[2], ",")) > 1 and _balanced(enclosed[2]):
        return _enclosure(text, enclosed[1], enclosed[2], enclosed[3])
    unit = re.search(r"\s*(\\text\{ ?[^}]*\}(\^\{?-?\d\}?)?|\^\{?\\circ\}?|\\%|%)$", bare)
    if unit and unit.start():
        number = read_formula(bare[: unit.start()])
        if number.op in ("num", "frac", "neg"):
            return Answer("quantity", text, number, unit=bare[unit.start() :])
    relation = _RELATION.search(bare)
    if relation:
        return _relation(text, bare, relation)
    sides = bare.split("=")
    if len(sides) == 2:
        return Answer("equation", text, read_formula(sides[1]), left=sides[0].strip())
    tree = _signed(bare)
    if tree is None:
        tree = read_formula(bare)
    return Answer("value", text, tree)


def _signed(text: str) -> Node | None:
    """Infinity at the end of an interval."""
    if text in ("\\infty", "+\\infty"):
        return Node("sym", (), "\\infty")
    if text == "-\\infty":
        return Node("neg", (Node("sym", (), "\\infty"),))
    return None


def _relation(text: str, bare: str, relation: re.Match[str]) -> Answer:
    left = bare[: relation.start()].strip()
    right = bare[relation.end() :].strip()
    if not re.fullmatch(r"[A-Za-z]", left):
        raise Unreadable(text)
    op = RELATIONS[relation[0]]
    return Answer("relation", text, read_formula(right), left=left, op=op)


def _enclosure(text: str, opening: str, inner: str, closing: str) -> Answer:
    items = tuple(_read(part) for part in split_top(inner, ","))
    if any(item.kind != "value" for item in items):
        raise Unreadable(text)
    brackets = opening + closing
    if brackets == "\\{\\}":
        return Answer("set", text, items=items)
    if brackets not in ("()", "[]", "(]", "[)"):
        raise Unreadable(text)
    endless = any("\\infty" in item.text for item in items)
    if len(items) == 2 and (endless or brackets != "()"):
        return Answer("interval", text, items=items, brackets=brackets)
    return Answer("tuple", text, items=items)


def _matrix(text: str) -> Answer:
    match = re.fullmatch(r"\\begin\{([pb])matrix\}(.*)\\end\{\1matrix\}", text, re.DOTALL)
    if match is None:
        raise Unreadable(text)
    rows = [row.split("&") for row in match[2].strip().removesuffix("\\\\").split("\\\\")]
    if len({len(row) for row in rows}) != 1:
        raise Unreadable(text)
    items = tuple(_read(cell.strip()) for row in rows for cell in row)
    return Answer("matrix", text, items=items, columns=len(rows[0]))


def _only(answer: Answer, kinds: tuple[str, ...]) -> Answer:
    if any(item.kind not in kinds for item in answer.items):
        raise Unreadable(answer.text)
    return answer


def split_top(text: str, separator: str) -> list[str]:
    """The parts between separators that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += letter in "([{"
        depth -= letter in ")]}"
        if letter == separator and depth == 0 and text[index - 1 : index] != "\\":
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def _balanced(text: str) -> bool:
    depth = 0
    for letter in text:
        depth += letter in "([{"
        depth -= letter in ")]}"
        if depth < 0:
            return False
    return depth == 0


def certainly_different(one: Answer, other: Answer) -> bool:
    """Whether two answers of the same kind surely differ, by values alone. Sets and lists have no
    order; equations differ where the difference of their sides has no constant ratio.
    """
    if one.kind != other.kind:
        return False
    match one.kind:
        case "value" | "quantity" if one.tree is not None and other.tree is not None:
            return surely_different(one.tree, other.tree)
        case "equation" | "relation" if one.tree is not None and other.tree is not None:
            if one.left != other.left or not re.fullmatch(r"[A-Za-z](\([a-z]\))?", one.left):
                return False
            return surely_different(one.tree, other.tree)
        case "tuple" | "matrix":
            if len(one.items) != len(other.items):
                return True
            pairs = zip(one.items, other.items, strict=True)
            return any(certainly_different(a, b) for a, b in pairs)
        case "interval":
            return _intervals_differ(one, other)
        case "union":
            pairs = zip(one.items, other.items, strict=True)
            return any(certainly_different(a, b) for a, b in pairs)
        case "list" | "set":
            there = _has_stranger(one.items, other.items)
            return there or _has_stranger(other.items, one.items)
        case _:
            return False


def _intervals_differ(one: Answer, other: Answer) -> bool:
    for a, b in zip(one.items, other.items, strict=True):
        if ("\\infty" in a.text) != ("\\infty" in b.text):
            return True
        if "\\infty" not in a.text and certainly_different(a, b):
            return True
    return False


def _has_stranger(items: tuple[Answer, ...], others: tuple[Answer, ...]) -> bool:
    """Whether one of the items differs surely from all of the others."""
    return any(all(certainly_different(item, other) for other in others) for item in items)


# ---------------------------------------------------------------- golds


def built_in() -> list[Gold]:
    """The golds that this file brings."""
    golds: list[Gold] = []
    for kind, texts in BUILT_IN.items():
        for number, text in enumerate(texts):
            golds.append(Gold(f"{kind}/{number}", text, read_answer(text, kind)))
    return golds


def from_files(paths: Iterable[Path]) -> Iterator[Gold]:
    """Golds of benchmark files, each text once."""
    seen: set[str] = set()
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            text = _gold_of(json.loads(line))
            if not text or text in seen or len(text) > 300:
                continue
            seen.add(text)
            yield Gold(f"{path.stem}/{number}", text, _guessed(text))


def _guessed(gold: str) -> Answer:
    """What a benchmark's gold is read as; raw where its letters may be words, units or digits."""
    text = gold.replace("$", "").strip()
    if re.fullmatch(r"[A-E]", text):
        return Answer("choice", text)
    if text in ("nan", "0/0") or text.endswith("\\"):
        return Answer("raw", text)
    if re.fullmatch(r"\\?(?:text|mathrm)?\{?[A-Za-z]+\}?", text) and len(text) > 1:
        return Answer("words", text)
    if re.fullmatch(r"-?\\?[1-9]\d{0,2}(,\d{3})+", text):
        return replace(read_answer(text.replace(",", "")), text=text)
    if _has_prose(text):
        return Answer("raw", text)
    answer = read_answer(text)
    if answer.kind not in ("quantity", "raw") and _LOOSE_WORD.search(text):
        return Answer("raw", text)
    return answer


# `9\\,\\mathrm{N}`: no subscript and no function, so it may be a unit.
_LOOSE_WORD = re.compile(r"(?<!_\{)(?<!_)\\(?:text|mathrm) ?\{")
_UNIT_OR_LETTERS = re.compile(
    r"-?[\d.]+ ?[a-z]{1,2}(\^\{?\d\}?)?(/[a-z]+(\^\{?\d\}?)?)?"  # `5 cm^2`, `60 km/h`
    r"|[\dA-Fa-f]+_\{?\d+\}?"  # `1A_{16}`
    r"|\(?[A-Z]\)?( ?, ?\(?[A-Z]\)?)*"  # `(C)`, `A, D`
    r"|.*\\text\{ ?(million|thousand|billion|dozen)s?\}"
    r"|[\d.]+(\\,)? ?\\mu ?[a-zA-Z]"
    r"|0\.\d+\\?%"  # 0.5 for it may be 50 %
)


def _has_prose(text: str) -> bool:
    bare = re.sub(r"\\(?:text|mathrm|operatorname)\s*\{[^}]*\}|\\[A-Za-z]+", " ", text)
    wordy = re.search(r"[A-Za-z]{3,}|pi\b|\bor\b", bare) or re.match(r"\s*\\text", text)
    return bool(wordy or _UNIT_OR_LETTERS.fullmatch(text))


def _gold_of(row: dict[str, object]) -> str:
    if row.get("expected") is False:
        return ""
    for key in ("gold", "final_answer", "answer", "solution"):
        found = row.get(key)
        if isinstance(found, list):
            found = "".join(found[:1] * (len(found) == 1))
        if isinstance(found, (int, float)):
            return f"{found:g}"
        if isinstance(found, str) and "####" in found:
            return found.rpartition("####")[2].strip()
        if isinstance(found, str) and "\\boxed{" in found:
            return _last_box(found)
        if isinstance(found, str) and key != "solution":
            return found.strip()
    return ""


def _last_box(text: str) -> str:
    start = text.rfind("\\boxed{") + len("\\boxed{")
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start:index].strip()
    return ""


BUILT_IN: dict[str, list[str]] = {
    "worded": [
        r"T_{\text{eff}}",
        r"\sqrt{T_{\text{eff}}}",
        r"\frac{T_{\text{eff}}}{2}",
        r"\lambda_{\text{red}}/\sqrt{2}",
        r"\lambda_{\text {red}} / \sqrt{2}",
        r"\frac{\lambda_{\mathrm{red}}}{\sqrt{2}}",
        r"t\,v_{\text{max}}",
        r"v_{\text{eff}}t",
        r"\frac{1}{2}m v_{\text{max}}^{2}",
        r"\omega_{\mathrm{rot}} R_{\mathrm{WD}}",
        r"\frac{\hbar^{2}k_{\text{in}}^{2}}{2m}",
        r"\sin(\theta_{\text{crit}})",
        r"\ln(N_{\text{tot}})",
        r"\pi R_{\text{out}}^{2}-\pi R_{\text{in}}^{2}",
        r"\operatorname{sgn}(x)",
        r"\sqrt{\operatorname{Var}(X)}",
        r"\pi\,\mathrm{erf}(x)",
        r"\frac{n_{\text{left}}+n_{\text{right}}}{2}",
        r"E_{\text{kin}}+E_{\text{pot}}",
        r"2\pi\sqrt{\frac{\ell}{g_{\text{moon}}}}",
        r"\rho_{\text{air}}V g",
        r"x_{\text{max}}=3a",
        r"P_{\text{out}}=\frac{V^{2}}{4R}",
        r"k_{\mathrm{B}}T\ln 2",
        r"\frac{G M_{\text{sun}}}{c^{2}}",
        r"\mu_{\text{eff}}\cos(\theta)",
        r"-\lambda_{\text{sun}}",
        r"\alpha_{\text{s}}^{2}\pi",
        r"\frac{T_{\text{hot}}-T_{\text{cold}}}{T_{\text{hot}}}",
        r"\sqrt{\frac{2E_{\text{kin}}}{m}}",
        r"\frac{1}{2}k x_{\text{max}}^{2}",
        r"\omega_{\text{p}}^{2}+c^{2}k^{2}",
        r"\tau_{\text{rise}}\ln 2",
        r"N_{\mathrm{A}}k_{\mathrm{B}}",
        r"\frac{v_{\text{in}}R_{2}}{R_{1}+R_{2}}",
        r"q_{\text{enc}}/\epsilon_{0}",
        r"\theta_{\text{max}}=\frac{\pi}{4}",
        r"\frac{\lambda_{\text{dB}}}{2\pi}",
        r"e^{-t/\tau_{\text{decay}}}",
        r"\hbar\omega_{\text{cut}}",
    ],
    "formula": [
        r"n^{2}+1",
        r"\frac{n(n+1)}{2}",
        r"2^{n}-n-1",
        r"x^{2}-2x+2",
        r"3\sqrt{2}",
        r"\frac{\sqrt{3}}{3}",
        r"\frac{1}{\sqrt{5}}",
        r"1+\sqrt{3}i",
        r"3-4i",
        r"\frac{3\pi}{4}",
        r"4\pi^{2}-1",
        r"\ln 2",
        r"\log_{2}(5)",
        r"\log_{3}(n)+1",
        r"\sqrt[3]{7}",
        r"5\sqrt[3]{4}",
        r"e^{2t}-1",
        r"\frac{e^{t}}{3}",
        r"\sin(2t)+\cos(t)",
        r"\frac{\cos(2t)}{15}",
        r"\omega^{2}",
        r"\Omega^{2}+\omega_{0}^{2}",
        r"\frac{2\pi}{\omega}",
        r"\sqrt{2}\cos(2t)",
        r"\tan(\alpha)",
        r"a^{2}+b^{2}-2ab\cos(\gamma)",
        r"\frac{m}{2}v^{2}",
        r"\sigma T^{4}",
        r"\frac{h c}{\lambda}",
        r"\binom{2n}{n}",
        r"n!+1",
        r"\lfloor\frac{n}{2}\rfloor+1",
        r"\frac{a+b}{c}",
        r"\frac{1}{s+a}",
        r"\frac{K-1}{L}",
        r"\frac{1}{3}E_{1}+\frac{2}{3}E_{2}",
        r"\sqrt{a^{2}+b^{2}}",
        r"(x-1)(x+2)",
        r"3x^{2}(x-4)",
        r"2-\sqrt{3}",
        r"\frac{-1+\sqrt{5}}{2}",
        r"x_{0}\cos(\omega t)",
        r"\hbar\omega(n+\frac{1}{2})",
        r"|a-b|",
        r"a^{2}-b^{2}",
        r"\frac{x+1}{x-1}",
        r"2\sin(x)\cos(x)",
        r"\frac{\sqrt{6}+\sqrt{2}}{4}",
        r"\alpha+2\beta",
        r"\Delta x",
        r"3\ln(2)-1",
        r"\frac{\omega_{1}+\omega_{2}}{2}",
        r"2+3i",
        r"e^{i\theta}",
        r"i\sqrt{3}",
        r"x^{3}-1",
        r"\mu_{0}I/(2\pi r)",
        r"\frac{q^{2}}{4\pi\epsilon_{0}r}",
        r"\frac{1}{\sqrt{2}}c",
        r"m\,g\,h",
    ],
    "number": [
        "7",
        "42",
        "-13",
        "64",
        "128",
        "1234",
        "6248",
        "100337",
        "3986729",
        "2.5",
        "0.25",
        "12.5",
        "-0.75",
        "4.5",
        "10.25",
        "7.25",
        "3.4",
        r"\frac{1}{2}",
        r"\frac{3}{4}",
        r"-\frac{8}{3}",
        r"\frac{58}{3}",
        r"\frac{97}{36}",
        r"\frac{7}{8}",
        r"\frac{41}{12}",
        "3.3e12",
        "4.5e33",
        "2.75e11",
        "1.39e-10",
        r"2^{1009}",
        r"1.5",
        r"3.25",
        r"8.75",
        r"0.5",
        r"20.5",
        r"6.125",
        r"15.2",
        r"9.6",
        r"4.03188",
        r"0.3",
        r"7.2",
        r"-42",
        r"-5",
        r"\frac{1}{90}",
        r"\frac{10}{3}",
        r"\frac{222}{13}",
        r"1000000",
        r"25000",
        r"7e37",
        r"1e-5",
        r"2.19e6",
        r"10^{100}",
        r"10^{35}",
    ],
    "equation": [
        "f(x)=2x",
        r"f(x)=\frac{1}{x}",
        "y=2x+1",
        "y=-3x+4",
        "k=3",
        "x=-2",
        r"P=\frac{9}{32}\sqrt{2}",
        "g(x)=x^{2}-2x+2",
        "y=x^{3}",
    ],
    "relation": [
        "x>3",
        r"x\le 5",
        r"k\ge 2",
        "n<10",
        r"x\ne 4",
        r"y\ge\frac{1}{2}",
        r"m > 2n",
        r"x<-2",
        r"x\ge 0",
        r"t\le\frac{3}{2}",
    ],
    "list": [
        "1, 3, 5",
        "2, -2",
        "69, 84",
        r"\frac{1}{2}, 3",
        "-3, 0",
        "1,3,9,11",
        r"1+\sqrt{2}, 1-\sqrt{2}",
        "f(x)=x, f(x)=2-x",
        r"\frac{\pi}{6}, \frac{5\pi}{6}",
        "7,14,18",
        r"2, 5",
        r"3 , 4 , 12",
        r"-1, 0, 1",
        r"\sqrt{2}, \sqrt{3}",
        r"16,3,1,1",
        r"12, 15",
        r"x=2, x=7",
        r"a=2, a=-6",
    ],
    "pairs": [
        "(2,32), (8,18)",
        "(1,5)",
        "(-6,6), (2,6)",
        "(0,5),(1,4)",
        "(3,-2)",
        r"(1,\sqrt{5})",
        "(1,1), (3,2)",
        r"(\frac{1}{2}, 8)",
        "(2,251,252)",
        "(-1,12),(4,11)",
        "(2,5)",
        "(0,3)",
        "(6,3),(9,3),(9,5),(54,5)",
        "(1,8,19), (2,7,13), (4,5,7)",
        r"(0,6),(2,6)",
        r"(1,2),(2,4),(3,6)",
        r"(4,7)",
        r"(-2,3)",
        r"(0,2),(0,-2)",
        r"(\sqrt{2},3)",
        r"(10,20)",
        r"(3,2),(-3,2)",
    ],
    "set": [
        r"\{1,2,3\}",
        r"\{-2,0,2\}",
        r"\{\frac{1}{2},4\}",
        r"\{0,5\}",
        r"\{-1,0,1\}",
        r"\{2,3,5,7\}",
        r"\{\sqrt{2},3\}",
    ],
    "interval": [
        "[1,5)",
        "[0,2]",
        "(0,4]",
        r"(-\infty,3)",
        r"[2,\infty)",
        r"[\frac{1}{2},8]",
        r"(-\infty,-1)\cup(1,\infty)",
        r"[0,1)\cup[2,3]",
        r"[-\sqrt{2},\sqrt{2}]",
        r"(2,7]",
        r"[-3,-1]",
        r"(0,\infty)",
        r"[1,2]\cup(5,9)",
        r"[10,20)",
        r"(-\infty,0]",
    ],
    "matrix": [
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix}",
        r"\begin{pmatrix} 1 \\ 2 \\ 5 \end{pmatrix}",
        r"\begin{pmatrix} \frac{1}{2} & 3 \\ 7 & 1 \end{pmatrix}",
        r"\begin{pmatrix} 2 & 1 \\ 5 & 3 \end{pmatrix}",
        r"\begin{pmatrix} 1 & 0 & 2 \\ 0 & 3 & 4 \end{pmatrix}",
        r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}",
    ],
    "quantity": [
        r"5\text{ kg}",
        r"12\text{ m}",
        r"3.5\text{ s}",
        r"20\text{ cm}",
        r"45^{\circ}",
        r"90^{\circ}",
        r"28\%",
        r"7.5\%",
        r"60\text{ km}",
        r"250\text{ mL}",
        r"30^{\circ}",
        r"15\%",
        r"8\text{ m}",
        r"2.5\text{ kg}",
        r"100\text{ cm}",
        r"12\text{ s}",
    ],
    "choice": ["A", "B", "C", "D", "E", r"F"],
    "words": [
        "north",
        "south",
        "even",
        "odd",
        "Monday",
        "Friday",
        r"\text{increasing}",
        r"\text{decreasing}",
        r"\text{ellipse}",
        r"\text{parabola}",
        "yes",
        "no",
        "true",
        "false",
        r"\text{Alice}",
        r"\text{red}",
        r"\mathrm{CO}",
        r"\mathrm{CO}_{2}",
        r"\alpha\text{-particle}",
        r"\text{left}",
        r"\text{convergent}",
        r"\text{clockwise}",
        r"\text{cannot be determined}",
        r"Tuesday",
        r"west",
        r"right",
        r"\text{divergent}",
        r"hyperbola",
        r"Bob",
        r"blue",
    ],
    "date": [
        "May 5, 2024",
        "July 14, 1789",
        "March 3, 2021",
        "October 31, 1999",
        r"January 1, 2000",
        r"December 25, 1642",
        r"June 6, 1944",
        r"April 30, 1777",
    ],
    "logic": [
        r"p\land q",
        r"p\lor q",
        r"p\land\neg q",
        r"A\implies B",
        r"A\Rightarrow B",
        r"A\Leftrightarrow B",
        r"a\in A",
        r"A\subset B",
        r"A\subseteq B",
        r"A\cap B",
        r"A\cup B",
        r"a\mid b",
        r"a\nmid b",
        r"AB\parallel CD",
        r"AB\perp CD",
        r"\forall x\, P(x)",
        r"\exists x\, P(x)",
        r"a\star b",
        r"a\bullet b",
        r"x=2\lor y=3",
        r"a\approx b",
        r"p\wedge(q\vee r)",
        r"A\setminus B",
        r"f\circ g",
        r"a\otimes b",
        r"p\lor\neg q",
        r"x\in\mathbb{R}",
        r"(p\land q)\lor r",
        r"X\cap Y",
        r"m\parallel n",
        r"\ell\perp m",
        r"a\oplus b",
        r"p\implies q",
        r"B\subset C",
        r"3\mid n",
        r"\exists y\, Q(y)",
        r"\neg p",
        r"A\supset B",
        r"u\bullet v",
    ],
}
