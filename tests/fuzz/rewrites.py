"""The same answers written otherwise: a table of named operators. Each gives an answer that a
careful person calls the same, or nothing; where values decide, they are compared by `formulas`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from answers import Answer, Gold, spell
from formulas import (
    POINTS,
    Node,
    Style,
    Unreadable,
    nodes,
    number,
    put,
    read_formula,
    surely_equal,
    value,
    written_symbols,
)
from mutations import Change, Made, Operator, corrected, date_parts, date_shapes
from templates import TEMPLATES, suitable, wrap

_DERIVATIVE = re.compile(r"\\frac\{d|\\Delta |\\dot|'|\\exp")

# ---------------------------------------------------------------- the manner of writing

STYLES: dict[str, Style] = {
    "dfrac": Style(frac="\\dfrac"),
    "tfrac": Style(frac="\\tfrac"),
    "slash": Style(frac="/"),
    "over": Style(frac="over"),
    "left_right": Style(left_right=True),
    "cdot": Style(dot="\\cdot "),
    "times": Style(dot="\\times "),
    "star": Style(dot="*"),
    "spaced": Style(space=" "),
    "thin_spaces": Style(space="\\,", dot="\\,"),
    "quad_spaces": Style(space="\\;"),
    "short_scripts": Style(short_scripts=True),
    "half_power": Style(half_power=True),
    "no_function_brackets": Style(function_brackets=False),
}


def _styled(name: str, style: Style) -> Operator:
    def operator(gold: Gold, _: random.Random) -> Made | None:
        if gold.answer.kind in ("raw", "words", "choice", "date", "logic"):
            return None
        if style.dot and "\\Delta " in gold.text:
            return None
        text = spell(gold.answer, style)
        if text in (gold.text, spell(gold.answer)):
            return None
        return Made(text)

    return operator


def spelled_anew(gold: Gold, _: random.Random) -> Made | None:
    """Our own plain writing where the gold's differs."""
    text = spell(gold.answer)
    if text == gold.text or gold.answer.kind == "raw":
        return None
    return Made(text)


# ---------------------------------------------------------------- inside formulas


def _at(*ops: str) -> Callable[[Callable[[Node, random.Random], Node | None]], Change]:
    def with_change(change: Callable[[Node, random.Random], Node | None]) -> Change:
        def whole(tree: Node, draw: random.Random) -> Node | None:
            found = [(path, node) for path, node in nodes(tree) if node.op in ops]
            draw.shuffle(found)
            for path, node in found:
                new = change(node, draw)
                if new is not None and new != node:
                    return put(tree, path, new)
            return None

        return whole

    return with_change


@_at("add")
def commuted_sum(node: Node, draw: random.Random) -> Node | None:
    args = list(node.args)
    draw.shuffle(args)
    return replace(node, args=tuple(args))


@_at("mul")
def commuted_product(node: Node, draw: random.Random) -> Node | None:
    args = list(node.args)
    draw.shuffle(args)
    return replace(node, args=tuple(args))


@_at("mul")
def distributed(node: Node, _: random.Random) -> Node | None:
    sums = [i for i, factor in enumerate(node.args) if factor.op == "add"]
    if not sums:
        return None
    at = sums[0]
    others = node.args[:at] + node.args[at + 1 :]
    terms: list[Node] = []
    for term in node.args[at].args:
        if term.op == "neg":
            terms.append(Node("neg", (Node("mul", (*others, term.args[0])),)))
        else:
            terms.append(Node("mul", (*others, term)))
    return Node("add", tuple(terms))


@_at("frac")
def factor_before_fraction(node: Node, _: random.Random) -> Node | None:
    above, below = node.args
    if above.op == "num" or above == number(1):
        return None
    return Node("mul", (Node("frac", (number(1), below)), above))


@_at("frac")
def split_fraction(node: Node, _: random.Random) -> Node | None:
    above, below = node.args
    if above.op != "add":
        return None
    terms: list[Node] = []
    for term in above.args:
        if term.op == "neg":
            terms.append(Node("neg", (Node("frac", (term.args[0], below)),)))
        else:
            terms.append(Node("frac", (term, below)))
    return Node("add", tuple(terms))


@_at("frac")
def unreduced_fraction(node: Node, draw: random.Random) -> Node | None:
    factor = draw.choice([2, 3, 5])
    parts = [_whole(part) for part in node.args]
    if parts[0] is None or parts[1] is None:
        return None
    return Node("frac", (number(factor * parts[0]), number(factor * parts[1])))


@_at("neg")
def sign_in_numerator(node: Node, _: random.Random) -> Node | None:
    inner = node.args[0]
    if inner.op != "frac":
        return None
    return Node("frac", (Node("neg", (inner.args[0],)), inner.args[1]))


@_at("frac")
def rationalised(node: Node, _: random.Random) -> Node | None:
    above, below = node.args
    if below.op != "root" or below.args[1] != number(2):
        return None
    if above == number(1):
        return Node("frac", (below, below.args[0]))
    return Node("frac", (Node("mul", (above, below)), below.args[0]))


@_at("frac")
def negative_power(node: Node, _: random.Random) -> Node | None:
    above, below = node.args
    if below.op not in ("sym", "num"):
        return None
    power = Node("pow", (below, number(-1)))
    if above == number(1):
        return power
    return Node("mul", (above, power))


@_at("pow")
def repeated_factor(node: Node, _: random.Random) -> Node | None:
    base, exponent = node.args
    if exponent != number(2) or base.op not in ("sym", "num"):
        return None
    return Node("mul", (base, base))


@_at("mul")
def number_into_root(node: Node, _: random.Random) -> Node | None:
    if len(node.args) != 2 or node.args[1].op != "root":
        return None
    outer = _whole(node.args[0])
    inner, index = (_whole(part) for part in node.args[1].args)
    if outer is None or inner is None or index is None:
        return None
    return Node("root", (number(outer**index * inner), number(index)))


@_at("mul")
def doubled_as_sum(node: Node, _: random.Random) -> Node | None:
    if node.args[0] != number(2) or len(node.args) != 2 or node.args[1].op != "sym":
        return None
    return Node("add", (node.args[1], node.args[1]))


@_at("func")
def changed_base(node: Node, _: random.Random) -> Node | None:
    if node.text != "log" or len(node.args) != 2:
        return None
    above = Node("func", (node.args[0],), "ln")
    return Node("frac", (above, Node("func", (node.args[1],), "ln")))


@_at("frac")
def slash_fraction(node: Node, _: random.Random) -> Node | None:
    return replace(node, op="div")


@_at("div")
def stacked_fraction(node: Node, _: random.Random) -> Node | None:
    return replace(node, op="frac")


CHANGES: dict[str, Change] = {
    "commuted_sum": commuted_sum,
    "commuted_product": commuted_product,
    "distributed": distributed,
    "factor_before_fraction": factor_before_fraction,
    "split_fraction": split_fraction,
    "unreduced_fraction": unreduced_fraction,
    "sign_in_numerator": sign_in_numerator,
    "rationalised": rationalised,
    "negative_power": negative_power,
    "repeated_factor": repeated_factor,
    "number_into_root": number_into_root,
    "doubled_as_sum": doubled_as_sum,
    "changed_base": changed_base,
    "slash_fraction": slash_fraction,
    "stacked_fraction": stacked_fraction,
}


def _whole(tree: Node) -> int | None:
    if tree.op == "num" and tree.text.isdigit():
        return int(tree.text)
    if tree.op == "neg":
        inner = _whole(tree.args[0])
        if inner is not None:
            return -inner
    return None


def _rewritten(answer: Answer, change: Change, draw: random.Random) -> Answer | None:
    if answer.tree is not None:
        tree = change(answer.tree, draw)
        if tree is None or not surely_equal(answer.tree, tree):
            return None
        return replace(answer, tree=tree)
    order = list(range(len(answer.items)))
    draw.shuffle(order)
    for at in order:
        if "\\infty" in answer.items[at].text:
            continue
        new = _rewritten(answer.items[at], change, draw)
        if new is not None:
            return replace(answer, items=answer.items[:at] + (new,) + answer.items[at + 1 :])
    return None


def _formula_rewrite(change: Change) -> Operator:
    def operator(gold: Gold, draw: random.Random) -> Made | None:
        if _DERIVATIVE.search(gold.text) or gold.answer.kind == "quantity":
            return None
        new = _rewritten(gold.answer, change, draw)
        if new is None or new.kind == "raw":
            return None
        text = spell(new)
        if new.kind == "value" and not _reads_the_same(text, gold):
            return None
        return Made(text)

    return operator


def _reads_the_same(text: str, gold: Gold) -> bool:
    try:
        again = read_formula(text)
    except Unreadable:
        return False
    return gold.answer.tree is not None and surely_equal(again, gold.answer.tree)


# ---------------------------------------------------------------- numbers


def _fraction(gold: Gold) -> Fraction | None:
    """The gold where it is a whole number, a decimal or a fraction."""
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None:
        return None
    return _exactly(answer.tree)


def _exactly(tree: Node) -> Fraction | None:
    if tree.op == "num" and "e" not in tree.text.lower():
        return Fraction(tree.text)
    if tree.op == "neg":
        inner = _exactly(tree.args[0])
        if inner is not None:
            return -inner
    if tree.op in ("frac", "div"):
        above, below = _exactly(tree.args[0]), _exactly(tree.args[1])
        if above is None or not below:
            return None
        return above / below
    return None


def _integer(gold: Gold) -> int | None:
    exact = _fraction(gold)
    if exact is None or exact.denominator != 1 or not re.fullmatch(r"-?[\d,]+", gold.text):
        return None
    return int(exact)


def decimal_for_fraction(gold: Gold, _: random.Random) -> Made | None:
    exact = _fraction(gold)
    if exact is None or "frac" not in gold.text:
        return None
    for places in range(1, 7):
        if (exact * 10**places).denominator == 1:
            return Made(f"{float(exact):.{places}f}")
    return None


def fraction_for_decimal(gold: Gold, draw: random.Random) -> Made | None:
    exact = _fraction(gold)
    if exact is None or "." not in gold.text or exact.denominator == 1:
        return None
    sign = "-" * (exact < 0)
    above = abs(exact.numerator)
    shape = draw.choice(["\\frac{%d}{%d}", "\\dfrac{%d}{%d}", "%d/%d"])
    return Made(sign + shape % (above, exact.denominator))


def float_repr(gold: Gold, _: random.Random) -> Made | None:
    exact = _fraction(gold)
    if exact is None or exact.denominator == 1 or abs(exact) > 1e6:
        return None
    return Made(repr(float(exact)))


def trailing_zeros(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None:
        return None
    return Made(f"{exact}{draw.choice(['.0', '.00'])}")


def _grouped(mark: str) -> Operator:
    def operator(gold: Gold, _: random.Random) -> Made | None:
        exact = _integer(gold)
        if exact is None or abs(exact) < 1000:
            return None
        return Made(f"{exact:,}".replace(",", mark))

    return operator


def mixed_number(gold: Gold, draw: random.Random) -> Made | None:
    exact = _fraction(gold)
    if exact is None or exact.denominator == 1 or exact < 1 or "frac" not in gold.text:
        return None
    whole, rest = divmod(exact.numerator, exact.denominator)
    shape = draw.choice(["%d\\frac{%d}{%d}", "%d \\frac{%d}{%d}", "%d\\dfrac{%d}{%d}"])
    return Made(shape % (whole, rest, exact.denominator))


def percent_for_decimal(gold: Gold, draw: random.Random) -> Made | None:
    exact = _fraction(gold)
    if exact is None or not re.fullmatch(r"0\.\d+", gold.text):
        return None
    return Made(f"{float(exact * 100):g}{draw.choice(['%', chr(92) + '%'])}")


def _in_command(shape: str) -> Operator:
    def operator(gold: Gold, _: random.Random) -> Made | None:
        if _fraction(gold) is None or not re.fullmatch(r"-?\d+(\.\d+)?", gold.text):
            return None
        return Made(shape.replace("%s", gold.text))

    return operator


def scientific(gold: Gold, draw: random.Random) -> Made | None:
    match = re.fullmatch(r"(-?\d(?:\.\d+)?)e(-?)\+?0*(\d+)", gold.text)
    if match is None:
        return None
    mantissa, power = match[1], f"{match[2]}{match[3]}"
    shapes = [
        f"{mantissa} \\times 10^{{{power}}}",
        f"{mantissa}\\cdot 10^{{{power}}}",
        f"{mantissa} x 10^{power}",
        f"{mantissa}*10^{power}",
        f"{mantissa} * 10^{{{power}}}",
        f"{mantissa}\\times10^{{{power}}}",
        f"{mantissa}e{power}",
        f"{mantissa}E{power}",
    ]
    return Made(draw.choice([shape for shape in shapes if shape != gold.text]))


def scientific_of_integer(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None or exact % 1000 or not exact:
        return None
    mantissa, _, power = f"{exact:e}".partition("e+")
    mantissa = mantissa.rstrip("0").rstrip(".")
    shape = draw.choice(["%s \\times 10^{%d}", "%s\\cdot 10^{%d}", "%se%d"])
    if float(f"{mantissa}e{power}") != exact:
        return None
    return Made(shape % (mantissa, int(power)))


_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]


def money(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None or exact < 2:
        return None
    shape = draw.choice(["\\boxed{\\$%s}", "\\boxed{\\$%s.00}", "#### $%s", "The answer is $%s."])
    return Made(shape % f"{exact:,}", whole=True)


_VULGAR = {"1/2": "½", "1/4": "¼", "3/4": "¾", "1/3": "⅓", "2/3": "⅔", "1/8": "⅛", "7/8": "⅞"}


def vulgar_fraction(gold: Gold, _: random.Random) -> Made | None:
    exact = _fraction(gold)
    if exact is None or str(exact) not in _VULGAR:
        return None
    return Made(_VULGAR[str(exact)])


def without_braces(gold: Gold, _: random.Random) -> Made | None:
    if gold.answer.kind in ("raw", "words", "date", "logic", "matrix"):
        return None
    text = spell(gold.answer)
    short = re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", text)
    short = re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", short)
    short = re.sub(r"([\^_])\{(\w)\}", r"\1\2", short)
    if short == text:
        return None
    return Made(short)


def plain_text(gold: Gold, _: random.Random) -> Made | None:
    """`3*sqrt(2)`, `(x+1)/(x-1)`, `pi/4`: as one types without LaTeX."""
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None or _DERIVATIVE.search(gold.text):
        return None
    if not re.search(r"\\(frac|sqrt|pi|sin|cos|ln)", gold.text):
        return None
    text = spell(answer, Style(frac="/", dot="*"))
    text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
    text = re.sub(r"\^\{(\w+)\}", r"^\1", text)
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
    text = re.sub(r"\\(pi|sin|cos|ln|tan)", r"\1", text)
    if "\\" in text or "{" in text:
        return None
    return Made(text)


def upright_constants(gold: Gold, _: random.Random) -> Made | None:
    if gold.answer.kind not in ("value", "equation"):
        return None
    text = re.sub(r"(?<![A-Za-z\\{])([ei])(?=[\^\\]|$)", r"\\mathrm{\1}", spell(gold.answer))
    if text == spell(gold.answer):
        return None
    return Made(text)


_DRESSES = [
    "\\displaystyle %s",
    "{\\color{red} %s}",
    "\\underline{%s}",
    "\\boxed{%s}",
    "\\;%s\\;",
    "%s\\,.",
    "\\mathbf{%s}",
    "\\bf{%s}",
    "\\hspace{2mm}%s",
    "\\large %s",
]


def dressed_formula(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind not in ("value", "equation", "tuple", "interval"):
        return None
    return Made(f"\\boxed{{{draw.choice(_DRESSES) % spell(gold.answer)}}}", whole=True)


_LANGUAGES = [
    "答案是 %s。",
    "所以答案为 $%s$。",
    "答案:%s",
    "Die Antwort ist %s.",
    "La respuesta es %s.",
    "La réponse est %s.",
    "Jawaban: %s",
    "Ответ: %s",
    "因此,最终答案是 $\\boxed{%s}$。",
]


def other_language(gold: Gold, draw: random.Random) -> Made | None:
    if not re.fullmatch(r"-?\d+", gold.text):
        return None
    return Made(draw.choice(_LANGUAGES) % gold.text, whole=True)


def spelled_number(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None or not 0 <= exact <= 20:
        return None
    word = _SMALL[exact]
    shape = draw.choice(["\\boxed{\\text{%s}}", "The answer is %s.", "The answer is **%s**."])
    return Made(shape % word, whole=True)


def unit_added(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None or exact < 2:
        return None
    unit = draw.choice(["\\text{ cm}", "\\text{ units}", "\\ \\text{meters}", "\\text{ apples}"])
    return Made(f"{exact}{unit}")


def unit_in_sentence(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None or exact < 2:
        return None
    shapes = [
        "So she has %d apples left.\n#### %d apples",
        "The answer is %d dollars. #### %d",
        "In total it costs $%d.\n\nThe answer is $%d.",
        "The answer is **%d minutes**, that is, %d minutes.",
    ]
    return Made(draw.choice(shapes) % (exact, exact), whole=True)


def chain(gold: Gold, draw: random.Random) -> Made | None:
    exact = _integer(gold)
    if exact is None or exact < 3:
        return None
    part = draw.randint(1, exact - 1)
    return Made(
        draw.choice(
            [
                f"\\boxed{{m+n = {part}+{exact - part} = {exact}}}",
                f"\\boxed{{{part}+{exact - part} = {exact}}}",
                f"So the answer is ${part}+{exact - part}={exact}$.",
            ]
        ),
        whole=True,
    )


def approximation_beside(gold: Gold, draw: random.Random) -> Made | None:
    """The exact form and, behind it, its decimal."""
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None or written_symbols(answer.tree) - {"\\pi"}:
        return None
    if re.fullmatch(r"-?[\d.,e-]+", gold.text):
        return None
    found = value(answer.tree, POINTS[0])
    if found is None or abs(found.imag) > 1e-9 or not 0.1 < abs(found.real) < 1e4:
        return None
    exact = _exactly(answer.tree)
    if exact is not None and (exact * 10**6).denominator == 1:
        return None
    shape = draw.choice(["%s \\approx %.3f", "%s\\;\\text{(about }%.2f\\text{)}"])
    return Made(shape % (spell(answer), found.real))


# ---------------------------------------------------------------- names, lists, sets, intervals


def named(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None:
        return None
    letters = [one for one in "xySN" if one not in written_symbols(answer.tree)]
    return Made(f"{draw.choice(letters)} = {spell(answer)}")


def right_side_only(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "equation" or answer.tree is None:
        return None
    if not re.fullmatch(r"[A-Za-z](\([a-z]\))?|[A-Z]_\{\\text\{[a-z]+\}\}", answer.left):
        return None
    return Made(spell(Answer("value", "", answer.tree)))


def turned_equation(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "equation" or answer.tree is None or len(answer.left) > 1:
        return None
    return Made(f"{spell(Answer('value', '', answer.tree))} = {answer.left}")


def permuted(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind not in ("list", "set", "union") or len(answer.items) < 2:
        return None
    items = list(answer.items)
    draw.shuffle(items)
    if tuple(items) == answer.items:
        items.reverse()
    return Made(spell(replace(answer, items=tuple(items))))


def _joints(answer: Answer) -> int:
    """Two where the parts must be joined by `and`: they say what different things are."""
    if len({item.left for item in answer.items}) > 1:
        return 2
    return 3


def list_in_words(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "list":
        return None
    parts = [spell(item) for item in answer.items]
    joint = draw.choice([" \\text{ and } ", "\\text{, and }", " \\text{ or } "][: _joints(answer)])
    return Made(", ".join(parts[:-1]) + joint + parts[-1])


def list_in_sentence(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "list":
        return None
    parts = [f"${spell(item)}$" for item in answer.items]
    joint = draw.choice([", and ", " and ", " or "][: _joints(answer)])
    start = draw.choice(["The answers are", "The solutions are", "The final answer is"])
    return Made(f"{start} {', '.join(parts[:-1])}{joint}{parts[-1]}.", whole=True)


def _is_one_value_again(answer: Answer) -> bool:
    return len({spell(item) for item in answer.items}) < 2


def several_boxes(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "list" or _is_one_value_again(answer):
        return None
    boxes = [f"\\boxed{{{spell(item)}}}" for item in answer.items]
    joint = draw.choice([", ", " and ", "$, $"])
    return Made(f"The solutions are ${joint.join(boxes)}$.", whole=True)


def parts_in_boxes(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "list" or answer.items[0].kind != "value" or len(answer.items) > 3:
        return None
    if _is_one_value_again(answer):
        return None
    shape = draw.choice(["(%s) $\\boxed{%s}$", "Part (%s): \\boxed{%s}", "%s) \\boxed{%s}"])
    parts = [shape % (name, spell(item)) for name, item in zip("abc", answer.items, strict=False)]
    return Made("\n\n".join(parts), whole=True)


def list_as_set(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "list" or answer.items[0].kind == "equation":
        return None
    if len({spell(item) for item in answer.items}) < len(answer.items):
        return None
    return Made(spell(replace(answer, kind="set")))


def list_of_equations(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "list" or answer.items[0].kind != "value":
        return None
    joint = draw.choice([", ", " \\text{ or } "])
    return Made(joint.join(f"x={spell(item)}" for item in answer.items))


def interval_as_inequality(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "interval":
        return None
    low, high = (spell(item) for item in answer.items)
    below = {"(": "<", "[": draw.choice(["\\le", "\\leq"])}[answer.brackets[0]]
    above = {")": "<", "]": draw.choice(["\\le", "\\leqslant"])}[answer.brackets[1]]
    if "\\infty" in low and "\\infty" in high:
        return None
    if "\\infty" in low:
        return Made(f"x {above} {high}")
    if "\\infty" in high:
        return Made(f"x {below.replace('l', 'g', 1).replace('<', '>')} {low}")
    return Made(f"{low} {below} x {above} {high}")


def element_of_interval(gold: Gold, _: random.Random) -> Made | None:
    if gold.answer.kind not in ("interval", "union"):
        return None
    return Made(f"x \\in {spell(gold.answer)}")


def relation_as_interval(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "relation" or answer.tree is None or written_symbols(answer.tree):
        return None
    end = spell(Answer("value", "", answer.tree))
    shapes = {
        ">": f"({end},\\infty)",
        "\\ge": f"[{end},\\infty)",
        "\\le": f"(-\\infty,{end}]",
        "<": f"(-\\infty,{end})",
        "\\ne": f"(-\\infty,{end})\\cup({end},\\infty)",
    }
    return Made(shapes[answer.op])


def turned_relation(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "relation" or answer.tree is None:
        return None
    op = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}[answer.op]
    return Made(f"{spell(Answer('value', '', answer.tree))} {op} {answer.left}")


def other_relation_sign(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "relation":
        return None
    signs = {
        "\\le": ["\\leq", "\\leqslant", "≤", "<="],
        "\\ge": ["\\geq", "\\geqslant", "≥", ">="],
        "\\ne": ["\\neq", "≠"],
        "<": ["\\lt"],
        ">": ["\\gt"],
    }
    return Made(spell(replace(answer, op=draw.choice(signs[answer.op]))))


def other_matrix_environment(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "matrix":
        return None
    text = spell(gold.answer)
    if draw.random() < 0.5:
        return Made(text.replace("pmatrix", "bmatrix"))
    columns = "c" * gold.answer.columns
    text = text.replace("\\begin{pmatrix}", f"\\left(\\begin{{array}}{{{columns}}}")
    return Made(text.replace("\\end{pmatrix}", "\\end{array}\\right)"))


# ---------------------------------------------------------------- words, choices, units, dates


def text_for_mathrm(gold: Gold, draw: random.Random) -> Made | None:
    """The words of a formula in another font."""
    if "\\text" not in gold.text and "\\mathrm" not in gold.text:
        return None
    if gold.answer.kind not in ("value", "equation", "words", "quantity"):
        return None
    fonts = ["\\text{", "\\mathrm{", "\\textrm{", "\\mathit{"]
    fonts = [font for font in fonts if font not in gold.text]
    text = re.sub(r"\\(?:text|mathrm|textrm) ?\{", lambda _: draw.choice(fonts[:2]), gold.text)
    if text == gold.text:
        return None
    return Made(text)


def bare_subscript_word(gold: Gold, _: random.Random) -> Made | None:
    text = re.sub(r"_\{\\(?:text|mathrm) ?\{ ?([A-Za-z]+) ?\}\}", r"_{\1}", gold.text)
    if text == gold.text:
        return None
    return Made(text)


def dressed_word(gold: Gold, draw: random.Random) -> Made | None:
    word = re.fullmatch(r"(?:\\text\{)?([A-Za-z]+)\}?", gold.text)
    if gold.answer.kind != "words" or word is None:
        return None
    shape = draw.choice(
        ["\\text{%s}", "\\mathrm{%s}", "\\textbf{%s}", "%s", "\\text{%s.}", "\\text{ %s }"]
    )
    inner = word[1]
    if draw.random() < 0.3:
        inner = inner.capitalize()
    return Made(f"\\boxed{{{shape % inner}}}", whole=True)


def word_in_sentence(gold: Gold, draw: random.Random) -> Made | None:
    word = re.fullmatch(r"(?:\\text\{)?([A-Za-z]+)\}?", gold.text)
    if gold.answer.kind != "words" or word is None:
        return None
    shape = draw.choice(["The answer is %s.", "The answer is **%s**.", "Answer: %s", "#### %s"])
    return Made(shape % word[1], whole=True)


def dressed_choice(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "choice":
        return None
    shapes = [
        "\\boxed{(%s)}",
        "\\boxed{\\text{%s}}",
        "\\boxed{\\textbf{(%s)}}",
        "The answer is (%s).",
        "Answer: %s",
        "**Answer: %s**",
        "The correct option is %s.",
        "\\boxed{\\text{(%s)}}",
        "\\boxed{%s.}",
        "So the correct answer is **(%s)**.",
    ]
    return Made(draw.choice(shapes).replace("%s", gold.text), whole=True)


def choice_with_text(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "choice":
        return None
    shapes = [
        "\\boxed{\\textbf{(%s) } 12}",
        "\\boxed{\\text{(%s) the second law}}",
        "The answer is (%s) photosynthesis.",
        "Answer: %s. The mitochondrion",
        "\\boxed{%s. \\text{ a circle}}",
        "The answer is %s) 15 km.",
    ]
    return Made(draw.choice(shapes).replace("%s", gold.text), whole=True)


def written_date(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "date":
        return None
    shapes = [shape for shape in date_shapes(*date_parts(gold.text)) if shape != gold.text]
    return Made(draw.choice(shapes))


def degrees(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "quantity" or "circ" not in answer.unit or answer.tree is None:
        return None
    digits = spell(Answer("value", "", answer.tree))
    shapes = ["%s^\\circ", "%s°", "%s\\text{ degrees}", "%s\\degree", "%s", "%s^{\\circ}"]
    return Made(draw.choice(shapes) % digits)


def percent(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "quantity" or "%" not in answer.unit or answer.tree is None:
        return None
    digits = spell(Answer("value", "", answer.tree))
    shapes = ["%s\\%%", "%s%%", "%s", "%s\\ \\%%", "%s\\text{ percent}"]
    return Made(draw.choice(shapes) % digits)


def unit_otherwise(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "quantity" or "\\text" not in answer.unit or answer.tree is None:
        return None
    digits = spell(Answer("value", "", answer.tree))
    unit = re.sub(r"\\text\{ ?|\}", "", answer.unit).strip()
    if not unit.isalpha():
        return None
    shape = draw.choice(
        [
            "%s\\ \\mathrm{%s}",
            "%s\\,\\text{%s}",
            "%s~\\mathrm{%s}",
            "%s \\text{ %s}",
            "%s\\mathrm{ %s}",
        ]
    )
    return Made(shape % (digits, unit))


def unit_dropped(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "quantity" or answer.tree is None:
        return None
    return Made(spell(Answer("value", "", answer.tree)))


_SYNONYMS = {
    "\\land": ["\\wedge", "∧"],
    "\\lor": ["\\vee", "∨"],
    "\\wedge": ["\\land", "∧"],
    "\\vee": ["\\lor", "∨"],
    "\\implies": ["\\Rightarrow", "⇒"],
    "\\Rightarrow": ["\\implies", "⇒"],
    "\\Leftrightarrow": ["\\iff", "⇔"],
    "\\neg": ["\\lnot", "¬"],
    "\\in": ["∈"],
    "\\cap": ["∩"],
    "\\cup": ["∪"],
    "\\forall": ["∀"],
    "\\exists": ["∃"],
    "\\approx": ["≈"],
    "\\perp": ["⊥"],
    "\\parallel": ["∥"],
    "\\setminus": ["\\backslash"],
    "\\subseteq": ["⊆"],
    "\\subset": ["⊂"],
}


def operator_synonym(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "logic":
        return None
    found = [m for m in re.finditer(r"\\[A-Za-z]+", gold.text) if m[0] in _SYNONYMS]
    if not found:
        return None
    match = draw.choice(found)
    new = draw.choice(_SYNONYMS[match[0]])
    return Made(f"{gold.text[: match.start()]}{new} {gold.text[match.end() :].lstrip()}")


def spaced_operator(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "logic":
        return None
    space = draw.choice(["\\,", "\\;", " ", "\\ "])
    return Made(
        re.sub(r"(\\[A-Za-z]+) ", rf"{re.escape(space)}\1 ".replace("\\\\", "\\"), gold.text)
    )


# ---------------------------------------------------------------- unicode, and whole completions

_UNICODE = {
    "\\pi": "π",
    "\\cdot ": "·",
    "\\times ": "×",
    "\\infty": "∞",
    "\\omega": "ω",
    "\\Omega": "Ω",
    "\\lambda": "λ",
    "\\alpha": "α",
    "\\theta": "θ",
    "\\sigma": "σ",
    "\\hbar": "ħ",
    "\\cup": "∪",
    "-": "−",
}


def unicode_letters(gold: Gold, _: random.Random) -> Made | None:
    if gold.answer.kind in ("raw", "words", "date", "logic"):
        return None
    text = spell(gold.answer)
    for command, letter in _UNICODE.items():
        text = re.sub(re.escape(command) + r"(?![A-Za-z])", letter, text)
    if text == spell(gold.answer):
        return None
    return Made(text)


_NEUTRAL = [
    "It is not hard to see that the answer is %s.",
    "The answer is exactly %s.",
    "The answer is therefore %s.",
    "The answer must be %s.",
    "The answer is indeed %s.",
    "The answer can only be %s.",
    "So the answer is simply %s.",
    "The answer is equal to %s.",
    "After simplification, the answer is given by %s.",
    "There is no other case. The answer is %s.",
    "The last option was not possible, so the answer is %s.",
    "The correct answer is **%s**.",
    "Hence the final answer is: %s",
    "The answer is thus %s",
    "It isn't 991, it can't be 992; the answer is %s.",
    "Since at least half of them are odd, the answer is %s.",
    "The answer is\n\n%s",
    "So our answer is just %s, as claimed.",
    "The answer is %s, as was to be shown.",
    "Twice the side is not enough, so the answer is %s.",
    "If it were larger than 994, we would have a contradiction. So the answer is %s.",
    "The square root of 998001 is 999, which is no solution; the answer is %s.",
    "Since the sum is at most 995, the answer is %s.",
    "We conclude that the minimum value is %s.",
    "Therefore the maximum is %s.",
    "There are half as many of them, thus the answer is %s.",
    "It cannot be negative. The answer is %s.",
    "The answer cannot be negative, so it is %s.",
    "If $n$ is odd there is none; hence the final answer is %s.",
]


def neutral_sentence(gold: Gold, draw: random.Random) -> Made | None:
    """Words around the answer that do not change it."""
    if gold.answer.kind not in ("value", "equation", "tuple", "interval", "set", "quantity"):
        return None
    text = gold.text.replace("$", "")
    plain = re.fullmatch(r"-?[\d.,]+", text)
    if plain is None or draw.random() < 0.5:
        text = f"${text}$"
    return Made(draw.choice(_NEUTRAL) % text, whole=True)


def decimal_comma(gold: Gold, draw: random.Random) -> Made | None:
    if not re.fullmatch(r"-?\d+\.\d\d?", gold.text):
        return None
    return Made(f"\\boxed{{{gold.text.replace('.', draw.choice([',', '{,}']))}}}", whole=True)


def correction(gold: Gold, draw: random.Random) -> Made | None:
    """A wrong answer, taken back for the right one."""
    answer = gold.answer
    if answer.kind != "value":
        return None
    return corrected(str(draw.randint(501, 999)), gold.text.replace("$", ""), draw)


def minus_in_words(gold: Gold, draw: random.Random) -> Made | None:
    if not re.fullmatch(r"-\d+(\.\d+)?", gold.text):
        return None
    shape = draw.choice(["The answer is minus %s.", "The answer is negative %s."])
    return Made(shape % gold.text[1:], whole=True)


def and_a_half(gold: Gold, _: random.Random) -> Made | None:
    if not re.fullmatch(r"\d+\.5", gold.text):
        return None
    return Made(f"The answer is {gold.text.partition('.')[0]} and a half.", whole=True)


def _template(name: str) -> Operator:
    def operator(gold: Gold, _: random.Random) -> Made | None:
        if name not in suitable(gold.text):
            return None
        return Made(wrap(gold.text, name), whole=True)

    return operator


_FUNCTIONS = (
    spelled_anew,
    decimal_for_fraction,
    fraction_for_decimal,
    float_repr,
    trailing_zeros,
    mixed_number,
    percent_for_decimal,
    scientific,
    scientific_of_integer,
    spelled_number,
    money,
    vulgar_fraction,
    without_braces,
    plain_text,
    upright_constants,
    dressed_formula,
    other_language,
    unit_added,
    unit_in_sentence,
    chain,
    approximation_beside,
    named,
    right_side_only,
    turned_equation,
    permuted,
    list_in_words,
    list_in_sentence,
    several_boxes,
    parts_in_boxes,
    list_as_set,
    list_of_equations,
    interval_as_inequality,
    element_of_interval,
    relation_as_interval,
    turned_relation,
    other_relation_sign,
    other_matrix_environment,
    text_for_mathrm,
    bare_subscript_word,
    dressed_word,
    word_in_sentence,
    dressed_choice,
    choice_with_text,
    written_date,
    degrees,
    percent,
    unit_otherwise,
    unit_dropped,
    operator_synonym,
    spaced_operator,
    unicode_letters,
    neutral_sentence,
    decimal_comma,
    correction,
    minus_in_words,
    and_a_half,
)
REWRITES: dict[str, Operator] = {
    **{f"style_{name}": _styled(name, style) for name, style in STYLES.items()},
    **{name: _formula_rewrite(change) for name, change in CHANGES.items()},
    **{operator.__name__: operator for operator in _FUNCTIONS},
    "thousands_comma": _grouped(","),
    "thousands_brace": _grouped("{,}"),
    "thousands_space": _grouped("\\,"),
    "thousands_thin": _grouped("\\;"),
    "in_text": _in_command("\\text{%s}"),
    "in_mathrm": _in_command("\\mathrm{%s}"),
    "in_mathbf": _in_command("\\mathbf{%s}"),
    "in_bold_text": _in_command("\\mathbf{\\text{%s}}"),
    "in_braces": _in_command("{%s}"),
    "with_units_word": _in_command("%s\\text{ units}"),
    **{f"completion_{name}": _template(name) for name in TEMPLATES},
}
