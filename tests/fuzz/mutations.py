"""Wrong answers made from right ones: a table of named operators. Each gives an answer that is
certainly wrong, or nothing; where values decide, they are compared by `formulas`, not by the
grader.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from answers import Answer, Gold, certainly_different, of_value, read_answer, spell
from formulas import (
    GREEK,
    Node,
    Unreadable,
    nodes,
    number,
    put,
    read_formula,
    surely_different,
    symbol,
    symbol_key,
    written_symbols,
)

Change = Callable[[Node, random.Random], Node | None]


@dataclass(frozen=True)
class Made:
    """A text made from a gold; `whole` if it is a completion, not an answer to be wrapped."""

    text: str
    whole: bool = False


Operator = Callable[[Gold, random.Random], Made | None]

# ---------------------------------------------------------------- inside formulas


def _choose(tree: Node, draw: random.Random, *ops: str) -> tuple[tuple[int, ...], Node] | None:
    found = [(path, node) for path, node in nodes(tree) if node.op in ops]
    if not found:
        return None
    return draw.choice(found)


def _replaced(*ops: str) -> Callable[[Callable[[Node, random.Random], Node | None]], Change]:
    """A change of one node that is one of these, chosen at random."""

    def with_change(change: Callable[[Node, random.Random], Node | None]) -> Change:
        def whole(tree: Node, draw: random.Random) -> Node | None:
            chosen = _choose(tree, draw, *ops)
            if chosen is None:
                return None
            path, node = chosen
            new = change(node, draw)
            if new is None:
                return None
            return put(tree, path, new)

        return whole

    return with_change


def _times(factor: Node, tree: Node) -> Node:
    return Node("mul", (factor, tree))


@_replaced("root")
def drop_root(node: Node, _: random.Random) -> Node | None:
    return node.args[0]


@_replaced("sym", "num", "add")
def add_root(node: Node, _: random.Random) -> Node | None:
    return Node("root", (node, number(2)))


@_replaced("root")
def other_root(node: Node, _: random.Random) -> Node | None:
    index = 3
    if node.args[1] != number(2):
        index = 2
    return Node("root", (node.args[0], number(index)))


@_replaced("mul")
def drop_factor(node: Node, draw: random.Random) -> Node | None:
    gone = draw.randrange(len(node.args))
    left = node.args[:gone] + node.args[gone + 1 :]
    if len(left) == 1:
        return left[0]
    return replace(node, args=left)


@_replaced("add")
def drop_term(node: Node, draw: random.Random) -> Node | None:
    gone = draw.randrange(len(node.args))
    left = node.args[:gone] + node.args[gone + 1 :]
    if len(left) == 1:
        return left[0]
    return replace(node, args=left)


@_replaced("sym")
def pi_for_symbol(node: Node, _: random.Random) -> Node | None:
    return _times(symbol("\\pi"), node)


def drop_pi(tree: Node, _: random.Random) -> Node | None:
    found = [path for path, node in nodes(tree) if node == symbol("\\pi")]
    if not found:
        return None
    return put(tree, found[0], number(1))


def add_pi(tree: Node, _: random.Random) -> Node | None:
    return _times(symbol("\\pi"), tree)


def negate(tree: Node, _: random.Random) -> Node | None:
    if tree.op == "neg":
        return tree.args[0]
    return Node("neg", (tree,))


def double(tree: Node, _: random.Random) -> Node | None:
    return _times(number(2), tree)


def halve(tree: Node, _: random.Random) -> Node | None:
    return Node("frac", (tree, number(2)))


def square(tree: Node, _: random.Random) -> Node | None:
    return Node("pow", (tree, number(2)))


def reciprocal(tree: Node, _: random.Random) -> Node | None:
    return Node("frac", (number(1), tree))


def wrap_ln(tree: Node, _: random.Random) -> Node | None:
    return Node("func", (tree,), "ln")


def wrap_sin(tree: Node, draw: random.Random) -> Node | None:
    return Node("func", (tree,), draw.choice(["sin", "cos", "tan", "exp"]))


def wrap_root(tree: Node, _: random.Random) -> Node | None:
    return Node("root", (tree, number(2)))


def minus_one(tree: Node, _: random.Random) -> Node | None:
    return Node("add", (tree, Node("neg", (number(1),))))


def times_constant(tree: Node, draw: random.Random) -> Node | None:
    return _times(symbol(draw.choice(["\\hbar", "\\alpha", "\\mu", "c", "i", "e"])), tree)


@_replaced("frac", "div")
def swap_fraction(node: Node, _: random.Random) -> Node | None:
    return replace(node, args=(node.args[1], node.args[0]))


@_replaced("frac", "div")
def drop_denominator(node: Node, _: random.Random) -> Node | None:
    return node.args[0]


@_replaced("frac", "div")
def product_for_fraction(node: Node, _: random.Random) -> Node | None:
    return Node("mul", node.args)


@_replaced("sym")
def other_greek(node: Node, draw: random.Random) -> Node | None:
    match = re.match(r"\\([A-Za-z]+)", node.text)
    if match is None or match[1] not in GREEK:
        return None
    name = match[1]
    if name.capitalize() in GREEK and draw.random() < 0.4 and name.islower():
        return symbol(node.text.replace(name, name.capitalize(), 1))
    others = [letter for letter in GREEK if letter.strip("var") != name.strip("var")]
    return symbol(node.text.replace(name, draw.choice(others), 1))


_WORDS = [
    "max",
    "min",
    "in",
    "out",
    "eff",
    "red",
    "sun",
    "ref",
    "tot",
    "left",
    "right",
    "up",
    "down",
    "air",
    "core",
]


@_replaced("sym", "app")
def other_subscript(node: Node, draw: random.Random) -> Node | None:
    match = re.search(r"_\{(?:\\[a-z]+ ?\{ ?)?([A-Za-z]+|\d+) ?\}?\}", node.text)
    if match is None:
        return None
    if match[1].isdigit():
        new = str(int(match[1]) + draw.choice([1, 2, 5]))
    else:
        new = draw.choice([word for word in _WORDS if word.lower() != match[1].lower()])
    text = node.text[: match.start(1)] + new + node.text[match.end(1) :]
    return replace(node, text=text)


@_replaced("sym")
def drop_subscript(node: Node, _: random.Random) -> Node | None:
    if "_{" not in node.text:
        return None
    return symbol(node.text.partition("_{")[0])


@_replaced("sym")
def other_case(node: Node, _: random.Random) -> Node | None:
    if not re.match(r"[A-Za-z](_|$)", node.text) or node.text in ("e", "i", "c", "C"):
        return None
    return symbol(node.text[0].swapcase() + node.text[1:])


@_replaced("sym")
def other_variable(node: Node, draw: random.Random) -> Node | None:
    if not re.match(r"[A-Za-z](_|$)", node.text):
        return None
    letter = draw.choice([one for one in "abkmnpqrstuvwxyz" if one != node.text[0].lower()])
    return symbol(letter + node.text[1:])


@_replaced("pow")
def other_power(node: Node, draw: random.Random) -> Node | None:
    more = Node("add", (node.args[1], number(draw.choice([1, 2]))))
    if node.args[1].op == "num" and node.args[1].text.isdigit():
        more = number(int(node.args[1].text) + draw.choice([1, 2]))
    return Node("pow", (node.args[0], more))


@_replaced("pow")
def drop_power(node: Node, _: random.Random) -> Node | None:
    return node.args[0]


@_replaced("pow")
def power_to_product(node: Node, _: random.Random) -> Node | None:
    return Node("mul", node.args)


@_replaced("add")
def other_sign_inside(node: Node, draw: random.Random) -> Node | None:
    at = draw.randrange(1, len(node.args))
    args = list(node.args)
    if args[at].op == "neg":
        args[at] = args[at].args[0]
    else:
        args[at] = Node("neg", (args[at],))
    return replace(node, args=tuple(args))


@_replaced("add")
def product_for_sum(node: Node, _: random.Random) -> Node | None:
    return Node("mul", node.args)


@_replaced("num")
def other_digit(node: Node, draw: random.Random) -> Node | None:
    places = [i for i, letter in enumerate(node.text.partition("e")[0]) if letter.isdigit()]
    if not places:
        return None
    at = draw.choice(places)
    new = draw.choice([digit for digit in "123456789" if digit != node.text[at]])
    return number(node.text[:at] + new + node.text[at + 1 :])


@_replaced("num")
def swapped_digits(node: Node, draw: random.Random) -> Node | None:
    digits = node.text.partition("e")[0]
    places = [
        i for i in range(len(digits) - 1) if digits[i : i + 2].isdigit() and "0" not in digits[i]
    ]
    if not places:
        return None
    at = draw.choice(places)
    return number(digits[:at] + digits[at + 1] + digits[at] + node.text[at + 2 :])


@_replaced("num")
def off_by_one(node: Node, draw: random.Random) -> Node | None:
    if not node.text.isdigit():
        return None
    return number(int(node.text) + draw.choice([1, -1]))


@_replaced("num")
def factor_ten(node: Node, draw: random.Random) -> Node | None:
    mantissa, mark, exponent = node.text.lower().partition("e")
    step = draw.choice([1, -1, 2, 3])
    if mark:
        return number(f"{mantissa}e{int(exponent) + step}")
    moved = Decimal(node.text).scaleb(step)
    return number(f"{moved:f}")


@_replaced("num")
def dropped_digit(node: Node, draw: random.Random) -> Node | None:
    if not node.text.isdigit() or len(node.text) < 2:
        return None
    at = draw.randrange(1, len(node.text))
    return number(node.text[:at] + node.text[at + 1 :])


def conjugate(tree: Node, _: random.Random) -> Node | None:
    found = [path for path, node in nodes(tree) if node == symbol("i")]
    if not found:
        return None
    return put(tree, found[0], Node("neg", (symbol("i"),)))


@_replaced("func")
def other_function(node: Node, draw: random.Random) -> Node | None:
    others = {
        "sin": ["cos", "tan", "sinh", "arcsin"],
        "cos": ["sin", "cosh", "sec"],
        "tan": ["cot", "sin", "arctan"],
        "ln": ["exp", "sin"],
        "exp": ["ln"],
    }.get(node.text)
    if others is None:
        return None
    return Node("func", node.args, draw.choice(others))


@_replaced("func")
def other_base(node: Node, draw: random.Random) -> Node | None:
    if node.text not in ("log", "ln"):
        return None
    return Node("func", (node.args[0], number(draw.choice([2, 3, 5, 7]))), "log")


@_replaced("func")
def drop_function(node: Node, _: random.Random) -> Node | None:
    return node.args[0]


@_replaced("floor", "ceil", "fact", "abs", "app")
def drop_brackets(node: Node, _: random.Random) -> Node | None:
    if node.op == "abs":
        return node.args[0]
    return replace(node.args[0])


@_replaced("binom")
def other_binomial(node: Node, _: random.Random) -> Node | None:
    return Node("frac", node.args)


FORMULA: dict[str, Change] = {
    "drop_root": drop_root,
    "add_root": add_root,
    "other_root": other_root,
    "drop_factor": drop_factor,
    "drop_term": drop_term,
    "pi_for_symbol": pi_for_symbol,
    "drop_pi": drop_pi,
    "add_pi": add_pi,
    "negate": negate,
    "double": double,
    "halve": halve,
    "square": square,
    "reciprocal": reciprocal,
    "wrap_ln": wrap_ln,
    "wrap_sin": wrap_sin,
    "wrap_root": wrap_root,
    "minus_one": minus_one,
    "times_constant": times_constant,
    "swap_fraction": swap_fraction,
    "drop_denominator": drop_denominator,
    "product_for_fraction": product_for_fraction,
    "other_greek": other_greek,
    "other_subscript": other_subscript,
    "drop_subscript": drop_subscript,
    "other_case": other_case,
    "other_variable": other_variable,
    "other_power": other_power,
    "drop_power": drop_power,
    "power_to_product": power_to_product,
    "other_sign_inside": other_sign_inside,
    "product_for_sum": product_for_sum,
    "other_digit": other_digit,
    "swapped_digits": swapped_digits,
    "off_by_one": off_by_one,
    "factor_ten": factor_ten,
    "dropped_digit": dropped_digit,
    "conjugate": conjugate,
    "other_function": other_function,
    "other_base": other_base,
    "drop_function": drop_function,
    "drop_brackets": drop_brackets,
    "other_binomial": other_binomial,
}
_FOR_QUANTITIES = {"other_digit", "swapped_digits", "off_by_one", "factor_ten", "double", "negate"}


def _changed(answer: Answer, change: Change, draw: random.Random) -> Answer | None:
    """The answer with one of its formulas changed."""
    if answer.tree is not None:
        tree = change(answer.tree, draw)
        if tree is None:
            return None
        return replace(answer, tree=tree)
    places = [i for i, item in enumerate(answer.items) if "\\infty" not in item.text]
    if answer.kind == "union":
        places = list(range(len(answer.items)))
    if not places:
        return None
    at = draw.choice(places)
    new = _changed(answer.items[at], change, draw)
    if new is None:
        return None
    return replace(answer, items=answer.items[:at] + (new,) + answer.items[at + 1 :])


def _formula_operator(name: str, change: Change) -> Operator:
    def operator(gold: Gold, draw: random.Random) -> Made | None:
        if gold.answer.kind == "quantity" and name not in _FOR_QUANTITIES:
            return None
        new = _changed(gold.answer, change, draw)
        if new is None or not certainly_different(gold.answer, new):
            return None
        text = spell(new)
        if _reads_otherwise(new, text):
            return None
        return Made(text)

    return operator


def _reads_otherwise(answer: Answer, text: str) -> bool:
    """Whether the text of a single formula is not read as that formula again: then what it means is
    not certain.
    """
    if answer.kind != "value" or answer.tree is None:
        return False
    try:
        again = read_formula(text)
    except Unreadable:
        return True
    return surely_different(again, answer.tree) or _symbols(again) != _symbols(answer.tree)


def _symbols(tree: Node) -> set[str]:
    return {symbol_key(text) for text in written_symbols(tree)}


# ---------------------------------------------------------------- lists, pairs, intervals, matrices


def _pairs(answer: Answer) -> list[Answer]:
    if answer.kind == "tuple":
        return [answer]
    if answer.kind == "list":
        return [item for item in answer.items if item.kind == "tuple"]
    return []


def swap_coordinates(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind == "list" and answer.items[0].kind == "tuple":
        at = draw.randrange(len(answer.items))
        turned = replace(answer.items[at], items=answer.items[at].items[::-1])
        new = replace(answer, items=answer.items[:at] + (turned,) + answer.items[at + 1 :])
    elif answer.kind == "tuple":
        new = replace(answer, items=answer.items[::-1])
    else:
        return None
    if not certainly_different(answer, new):
        return None
    return Made(spell(new))


def one_pair_of_list(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "list" or len(_pairs(gold.answer)) < 2:
        return None
    return Made(spell(draw.choice(gold.answer.items)))


def list_for_one_pair(gold: Gold, draw: random.Random) -> Made | None:
    """A list of pairs whose union, read as intervals, is the pair of the gold."""
    if gold.answer.kind != "tuple" or len(gold.answer.items) != 2:
        return None
    low, high = (spell(item) for item in gold.answer.items)
    middle = draw.choice(["1", "2", "3", "\\frac{5}{2}"])
    if middle in (low, high):
        return None
    joint = draw.choice([", ", ",", " and ", "; ", "\\text{ and }"])
    return Made(
        draw.choice(
            [
                f"({low},{middle}){joint}({middle},{high})",
                f"({low},{high}){joint}({low},{middle})",
                f"({low},{middle}){joint}({low},{high})",
                f"({low},{high}){joint}({high},{low})",
            ]
        )
    )


def union_for_pairs(gold: Gold, _: random.Random) -> Made | None:
    """A union of intervals where the gold is a list of pairs, each of which could be one."""
    pairs = _pairs(gold.answer)
    if gold.answer.kind != "list" or len(pairs) < 2:
        return None
    if not all(_could_be_interval(pair) for pair in pairs):
        return None
    return Made(" \\cup ".join(spell(item) for item in gold.answer.items))


def _could_be_interval(pair: Answer) -> bool:
    ends = [item.text for item in pair.items]
    if len(ends) != 2 or not all(re.fullmatch(r"-?\d+", end) for end in ends):
        return False
    return int(ends[0]) < int(ends[1])


def missing_element(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind not in ("list", "set", "tuple", "union") or len(answer.items) < 2:
        return None
    gone = draw.randrange(len(answer.items))
    left = answer.items[:gone] + answer.items[gone + 1 :]
    if answer.kind == "tuple" and len(left) < 2:
        return None
    new = replace(answer, items=left)
    if answer.kind != "union" and not certainly_different(answer, new):
        return None
    return Made(spell(new))


def extra_element(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    extra = of_value(number(draw.randint(2, 40)))
    if answer.kind == "value":
        if not certainly_different(answer, extra):
            return None
        joint = draw.choice([", ", " and ", " or ", "\\text{ and }", ";\\ "])
        return Made(f"{spell(answer)}{joint}{spell(extra)}")
    if answer.kind not in ("list", "set") or answer.items[0].kind != "value":
        return None
    new = replace(answer, items=(*answer.items, extra))
    if not certainly_different(answer, new):
        return None
    return Made(spell(new))


def list_for_decimal(gold: Gold, draw: random.Random) -> Made | None:
    match = re.fullmatch(r"(\d+)\.(\d+)", gold.text)
    if match is None:
        return None
    a, b = match[1], match[2]
    shape = draw.choice(
        [
            "$%s$ and $%s$",
            "\\boxed{%s}, \\boxed{%s}",
            "\\boxed{%s} and \\boxed{%s}",
            "\\boxed{%s, %s}",
            "\\boxed{%s; %s}",
            "\\boxed{%s \\text{ and } %s}",
            "\\boxed{%s\\text{ or }%s}",
            "The answer is %s and %s.",
            "The answers are %s and %s.",
            "\\boxed{\\{%s, %s\\}}",
            "\\boxed{(%s, %s)}",
            "%s and %s",
            "#### %s and %s",
            "\\boxed{%s,\\ %s}",
            "x = %s or x = %s",
            "\\boxed{x_1=%s, x_2=%s}",
        ]
    )
    return Made(shape % (a, b), whole=True)


def decimal_for_list(gold: Gold, _: random.Random) -> Made | None:
    match = re.fullmatch(r"(\d+)\s*,\s+(\d+)", gold.text)
    if match is None:
        return None
    return Made(f"{match[1]}.{match[2]}")


def list_for_number(gold: Gold, draw: random.Random) -> Made | None:
    """`12, 34` for `1234`: no group of three, which would be thousands."""
    if not re.fullmatch(r"[1-9]\d{3,}", gold.text):
        return None
    places = [at for at in range(1, len(gold.text)) if len(gold.text) - at != 3]
    at = draw.choice(places)
    joint = draw.choice([", ", " and ", "; ", "\\text{ and }"])
    return Made(f"{gold.text[:at]}{joint}{gold.text[at:]}")


def lost_fraction(gold: Gold, draw: random.Random) -> Made | None:
    """`12` or `1, 2` for `\\frac{1}{2}`."""
    match = re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", gold.text.strip("$"))
    if match is None:
        return None
    shape = draw.choice(["%s%s%s", "%s%s, %s", "%s%s.%s", "%s%s:%s0", "%s%s-%s", "%s%s \\cdot %s"])
    text = shape % match.groups()
    if certainly_different(gold.answer, read_answer(text)) or "," in text or ":" in text:
        return Made(text)
    return None


def lost_power(gold: Gold, _: random.Random) -> Made | None:
    """`21009` for `2^{1009}`, `10100` for `10^{100}`."""
    match = re.fullmatch(r"(\d+)\^\{?(\d+)\}?", gold.text.strip("$"))
    if match is None:
        return None
    return Made(match[1] + match[2])


def mixed_as_product(gold: Gold, _: random.Random) -> Made | None:
    """`19\\cdot\\frac{1}{3}` for `\\frac{58}{3}`."""
    match = re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", gold.text.strip("$"))
    if match is None or int(match[1]) < int(match[2]) or int(match[1]) % int(match[2]) == 0:
        return None
    whole, rest = divmod(int(match[1]), int(match[2]))
    text = f"{whole}\\cdot\\frac{{{rest}}}{{{match[2]}}}"
    if not certainly_different(gold.answer, read_answer(text)):
        return None
    return Made(text)


def repeating_decimal(gold: Gold, _: random.Random) -> Made | None:
    if not re.fullmatch(r"\d{1,3}\.\d?[1-9]", gold.text):
        return None
    return Made(f"{gold.text[:-1]}\\overline{{{gold.text[-1]}}}")


def relation_for_value(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "value":
        return None
    op = draw.choice(["<", ">", "\\le", "\\ge", "\\ne", "\\neq", "\\leq", "\\not="])
    return Made(f"{draw.choice(['x ', 'y ', 'z', ''])}{op} {spell(gold.answer)}")


def plus_minus(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None or answer.tree.op in ("add", "neg"):
        return None
    if not surely_different(answer.tree, number(0)):
        return None
    return Made(f"\\pm {spell(answer)}")


def interval_as_set(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "interval" or "\\infty" in gold.text:
        return None
    low, high = (spell(item) for item in gold.answer.items)
    return Made(draw.choice([f"\\{{{low}, {high}\\}}", f"{low} \\text{{ and }} {high}"]))


def words_in_the_box(gold: Gold, draw: random.Random) -> Made | None:
    """Words beside the answer in its box that change it."""
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None:
        return None
    if not all(surely_different(answer.tree, number(n)) for n in (0, 1, -1, 2)):
        return None
    shapes = [
        "\\text{twice }%s",
        "\\text{half of }%s",
        "\\text{not }%s",
        "\\text{at most }%s",
        "\\text{more than }%s",
        "\\text{the square root of }%s",
        "%s\\text{ factorial}",
        "%s\\text{ thousand}",
        "%s\\text{ squared}",
        "\\text{minus }%s",
        "%s\\text{ or }977",
        "%s\\text{ if }n\\text{ is even}",
        "\\text{anything but }%s",
    ]
    return Made(draw.choice(shapes) % spell(answer))


def decimal_of_digits(gold: Gold, _: random.Random) -> Made | None:
    """`1.3` for `13`, `13` for `1.3`."""
    if re.fullmatch(r"\d{4}|\d+\.\d{3}", gold.text):  # 1.234 is 1234 to many
        return None
    if re.fullmatch(r"\d\d+", gold.text):
        return Made(f"{gold.text[0]}.{gold.text[1:]}")
    if re.fullmatch(r"[1-9]\d*\.\d+", gold.text):
        return Made(gold.text.replace(".", ""))
    return None


def other_interval_end(gold: Gold, draw: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind == "union":
        at = draw.randrange(len(answer.items))
        changed = other_interval_end(Gold("", "", answer.items[at]), draw)
        if changed is None:
            return None
        parts = [spell(item) for item in answer.items]
        parts[at] = changed.text
        return Made(" \\cup ".join(parts))
    if answer.kind != "interval":
        return None
    places = [i for i, item in enumerate(answer.items) if "\\infty" not in item.text]
    if not places:
        return None
    at = draw.choice(places)
    brackets = list(answer.brackets)
    brackets[at] = {"(": "[", "[": "(", ")": "]", "]": ")"}[brackets[at]]
    return Made(spell(replace(answer, brackets="".join(brackets))))


def complement(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind == "relation":
        op = {"<": "\\ge", ">": "\\le", "\\le": ">", "\\ge": "<", "\\ne": "="}[answer.op]
        return Made(spell(replace(answer, op=op)))
    if answer.kind != "interval" or "\\infty" in answer.text:
        return None
    low, high = (spell(item) for item in answer.items)
    left = {"(": "]", "[": ")"}[answer.brackets[0]]
    right = {")": "[", "]": "("}[answer.brackets[1]]
    return Made(f"(-\\infty,{low}{left}\\cup {right}{high},\\infty)")


def other_relation(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "relation":
        return None
    others = {
        "<": [">", "\\le", "="],
        ">": ["<", "\\ge", "="],
        "\\le": ["<", "\\ge"],
        "\\ge": [">", "\\le"],
        "\\ne": ["<", ">", "="],
    }
    return Made(spell(replace(gold.answer, op=draw.choice(others[gold.answer.op]))))


def relation_as_wrong_interval(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "relation" or answer.tree is None or written_symbols(answer.tree):
        return None
    end = spell(of_value(answer.tree))
    shapes = {
        "<": f"({end},\\infty)",
        ">": f"[{end},\\infty)",
        "\\le": f"(-\\infty,{end})",
        "\\ge": f"(-\\infty,{end}]",
        "\\ne": f"(-\\infty,{end})",
    }
    return Made(shapes[answer.op])


def intersection_for_union(gold: Gold, _: random.Random) -> Made | None:
    if gold.answer.kind != "union":
        return None
    return Made(" \\cap ".join(spell(item) for item in gold.answer.items))


def transpose(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "matrix" or answer.columns == 1:
        return None
    columns = answer.columns
    turned = [item for column in range(columns) for item in answer.items[column::columns]]
    return _other_matrix(gold, turned)


def swap_rows(gold: Gold, _: random.Random) -> Made | None:
    answer = gold.answer
    if answer.kind != "matrix":
        return None
    columns = answer.columns
    turned = answer.items[columns : 2 * columns] + answer.items[:columns]
    return _other_matrix(gold, [*turned, *answer.items[2 * columns :]])


def _other_matrix(gold: Gold, items: list[Answer]) -> Made | None:
    new = replace(gold.answer, items=tuple(items))
    if not certainly_different(gold.answer, new):
        return None
    return Made(spell(new))


# ---------------------------------------------------------------- words, choices, units, dates

_OPPOSITES = {
    "north": ["south", "east", "west", "northeast"],
    "south": ["north", "east", "southwest"],
    "even": ["odd", "uneven"],
    "odd": ["even"],
    "yes": ["no"],
    "no": ["yes"],
    "true": ["false"],
    "false": ["true"],
    "increasing": ["decreasing", "nonincreasing"],
    "decreasing": ["increasing"],
    "convergent": ["divergent"],
    "left": ["right"],
    "clockwise": ["counterclockwise", "anticlockwise"],
    "CO": ["Co", "C", "NO"],
    "Monday": ["Sunday", "Tuesday"],
    "Friday": ["Thursday", "Saturday"],
    "red": ["blue", "infrared"],
    "Alice": ["Bob"],
    "ellipse": ["hyperbola", "circle"],
    "parabola": ["line", "hyperbola"],
    "Tuesday": ["Wednesday", "Monday"],
    "west": ["east", "north"],
    "right": ["left"],
    "divergent": ["convergent"],
    "hyperbola": ["parabola", "ellipse"],
    "Bob": ["Alice", "Bo"],
    "blue": ["red", "light green"],
    "cannot": ["can"],
}


def other_word(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "words":
        return None
    for word, others in _OPPOSITES.items():
        match = re.search(rf"(?<![A-Za-z]){word}(?![A-Za-z])", gold.text)
        if match is not None:
            new = draw.choice(others)
            return Made(gold.text[: match.start()] + new + gold.text[match.end() :])
    return None


def not_word(gold: Gold, draw: random.Random) -> Made | None:
    word = re.fullmatch(r"(?:\\text\{)?([A-Za-z]+)\}?", gold.text)
    if gold.answer.kind != "words" or word is None or word[1] in ("yes", "no"):
        return None
    shape = draw.choice(["\\boxed{\\text{not %s}}", "The answer is not %s.", "not %s", "non-%s"])
    return Made(shape % word[1], whole=True)


def other_particle(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "words" or "\\alpha" not in gold.text:
        return None
    return Made(gold.text.replace("\\alpha", draw.choice(["\\beta", "\\gamma", "\\Delta"])))


def other_formula_index(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "words" or "_{2}" not in gold.text:
        return None
    return Made(gold.text.replace("_{2}", draw.choice(["_{3}", "", "^{2}"])))


def other_choice(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "choice":
        return None
    new = draw.choice([letter for letter in "ABCDE" if letter != gold.text])
    shape = draw.choice(["%s", "(%s)", "\\text{%s}", "\\textbf{(%s)}", "\\mathrm{%s}"])
    return Made(shape % new)


def not_the_choice(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "choice":
        return None
    shapes = ["The answer is not %s.", "The answer isn't (%s).", "The answer cannot be %s."]
    return Made(draw.choice(shapes) % gold.text, whole=True)


def two_choices(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "choice":
        return None
    new = draw.choice([letter for letter in "ABCDE" if letter != gold.text])
    shape = draw.choice(["%s and %s", "%s, %s", "\\text{%s and %s}"])
    return Made(shape % (gold.text, new))


_UNITS = {
    "kg": ["g", "mg", "m", "lb"],
    "m": ["s", "cm", "km", "ft"],
    "s": ["m", "min", "h", "ms"],
    "cm": ["m", "mm", "in"],
    "km": ["m", "cm", "miles"],
    "mL": ["L", "cL"],
}


def other_unit(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "quantity" or gold.answer.tree is None:
        return None
    digits = spell(of_value(gold.answer.tree))
    if "circ" in gold.answer.unit:
        return Made(f"{digits}\\text{{ rad}}")
    unit = re.sub(r"\\text\{ ?|\}", "", gold.answer.unit).strip()
    if unit not in _UNITS:
        return None
    return Made(f"{digits}\\text{{ {draw.choice(_UNITS[unit])}}}")


MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def date_parts(text: str) -> tuple[int, int, int]:
    """Day, month and year of `May 5, 2024`."""
    month, day, year = text.replace(",", "").split()
    return int(day), MONTHS.index(month) + 1, int(year)


def date_shapes(day: int, month: int, year: int) -> list[str]:
    """The ways to write a date that cannot be read otherwise."""
    name = MONTHS[month - 1]
    return [
        f"{name} {day}, {year}",
        f"{day} {name} {year}",
        f"{year}-{month:02}-{day:02}",
        f"\\text{{{name} {day}, {year}}}",
        f"\\text{{{day} {name} {year}}}",
    ]


def other_date(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "date":
        return None
    day, month, year = date_parts(gold.text)
    which = draw.randrange(3)
    if which == 0:
        day = day % 28 + 1
    elif which == 1:
        month = month % 12 + 1
    else:
        year += draw.choice([1, -1, 10, 100])
    return Made(draw.choice(date_shapes(day, month, year)))


# ---------------------------------------------------------------- operators of logic

_OTHER_OPERATORS = {
    "\\land": ["\\lor", "\\vee", "\\oplus", "\\implies"],
    "\\lor": ["\\land", "\\wedge", "\\oplus"],
    "\\wedge": ["\\vee", "\\lor"],
    "\\vee": ["\\wedge", "\\land"],
    "\\implies": ["\\iff", "\\in", "\\sim", "\\simeq", "\\Leftarrow", "\\land"],
    "\\Rightarrow": ["\\Leftrightarrow", "\\Leftarrow", "\\in", "\\lor", "\\approx"],
    "\\Leftrightarrow": ["\\Rightarrow", "\\Leftarrow", "\\oplus", "\\subset"],
    "\\in": ["\\notin", "\\ni", "\\subset", "\\approx", "\\Rightarrow"],
    "\\subset": ["\\supset", "\\in", "\\cap", "\\not\\subset", "\\approx"],
    "\\subseteq": ["\\supseteq", "\\in", "\\cup", "\\setminus"],
    "\\cap": ["\\cup", "\\setminus", "\\subset"],
    "\\cup": ["\\cap", "\\setminus", "\\in"],
    "\\mid": ["\\nmid", "\\parallel"],
    "\\nmid": ["\\mid"],
    "\\parallel": ["\\perp", "\\nparallel"],
    "\\perp": ["\\parallel"],
    "\\forall": ["\\exists", "\\nexists"],
    "\\exists": ["\\forall", "\\nexists"],
    "\\star": ["\\bullet", "\\diamond", "\\oplus"],
    "\\bullet": ["\\star", "\\oplus", "\\odot"],
    "\\approx": ["\\in", "\\neq", "<", "\\perp"],
    "\\setminus": ["\\cup", "\\cap", "\\times"],
    "\\circ": ["\\oplus", "\\otimes", "\\cup"],
    "\\otimes": ["\\oplus", "\\odot", "\\wedge"],
    "\\neq": ["="],
    "\\oplus": ["\\otimes", "\\land", "\\ominus"],
    "\\supset": ["\\subset", "\\in"],
}


def other_operator(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "logic":
        return None
    found = [
        match for match in re.finditer(r"\\[a-zA-Z]+", gold.text) if match[0] in _OTHER_OPERATORS
    ]
    if not found:
        return None
    match = draw.choice(found)
    new = draw.choice(_OTHER_OPERATORS[match[0]])
    return Made(f"{gold.text[: match.start()]}{new} {gold.text[match.end() :].lstrip()}")


def other_negation(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "logic":
        return None
    if "\\neg" in gold.text:
        return Made(gold.text.replace("\\neg ", "").replace("\\neg", ""))
    if not re.search(r"\\(land|lor|wedge|vee|implies|Rightarrow)", gold.text):
        return None
    if gold.text[0] == "x":
        return None
    return Made(draw.choice([f"\\neg {gold.text}", f"\\neg({gold.text})", f"\\lnot ({gold.text})"]))


def other_operand(gold: Gold, draw: random.Random) -> Made | None:
    if gold.answer.kind != "logic":
        return None
    last = re.search(r"[A-Za-z3](?=\)?$)", gold.text)
    if last is None:
        return None
    return Made(f"{gold.text[: last.start()]}{draw.choice('sKZ7')}{gold.text[last.end() :]}")


def turned_implication(gold: Gold, _: random.Random) -> Made | None:
    match = re.fullmatch(
        r"(\w)(\\implies|\\Rightarrow|\\in|\\subset|\\mid|\\setminus|\\circ) (\w)", gold.text
    )
    if match is None:
        return None
    return Made(f"{match[3]}{match[2]} {match[1]}")


# ---------------------------------------------------------------- sentences

SENTENCES: dict[str, list[str]] = {
    "isnt": ["The answer isn't %s.", "So the final answer isn't %s"],
    "is_not": ["The answer is not %s.", "Hence the answer is not equal to %s."],
    "cannot_be": ["The answer cannot be %s.", "The answer can't be %s.", "It could not be %s."],
    "should_not_be": ["The answer should not be %s", "The answer must not be %s."],
    "is_wrong": ["So %s is wrong.", "%s is not the answer.", "%s is incorrect."],
    "anything_but": ["The answer is anything but %s.", "The answer is different from %s."],
    "minus": [
        "The answer is minus %s.",
        "The answer is negative %s.",
        "the answer is the negative of %s",
    ],
    "twice": ["The answer is twice %s.", "The answer is double %s.", "The answer is two times %s."],
    "half_of": ["The answer is half of %s.", "The answer is one third of %s", "half of %s"],
    "root_of": ["The answer is the square root of %s", "The final answer is the cube root of %s."],
    "square_of": ["The answer is the square of %s.", "The answer is %s squared.", "%s cubed"],
    "reciprocal_of": ["The answer is the reciprocal of %s.", "The answer is one over %s."],
    "up_to": ["The answer is up to %s.", "The answer is at most %s.", "no more than %s"],
    "at_least": ["The answer is at least %s.", "The answer is more than %s.", "%s or more"],
    "less_than": ["The answer is less than %s.", "The answer is strictly below %s."],
    "factorial": ["The answer is %s factorial", "The answer is the factorial of %s."],
    "conditional": [
        "The answer is %s if $n$ is even and 43 if odd.",
        "The answer is %s if n is even and $n+1$ if n is odd.",
        "The answer is 17 for odd $n$ and %s otherwise.",
    ],
    "one_more_than": ["The answer is one more than %s.", "The answer is 5 less than %s."],
    "times_word": [
        "The answer is %s thousand.",
        "The answer is %s million.",
        "The answer is %s dozen.",
    ],
    "plus_something": ["The answer is %s plus 3.", "The answer is the sum of %s and 12."],
    "either_or": ["The answer is either %s or 71.", "The answer is between %s and 1077."],
    "and_a_half": ["The answer is %s and a half", "The answer is %s and three quarters."],
    "logarithm_of": ["The answer is the logarithm of %s.", "The answer is the sine of %s."],
    "multiple_of": ["The answer is a multiple of %s.", "The answer is a divisor of %s."],
    "other_denials": [
        "The answer is never %s.",
        "The answer is no longer %s.",
        "The answer is anything except %s.",
        "The answer is far from %s.",
        "The answer is neither %s nor 71.",
        "It is impossible that the answer is %s.",
        "It is a common mistake to say that the answer is %s.",
        "The answer would have been %s, had the die been fair.",
    ],
    "other_bounds": [
        "The answer is no less than %s.",
        "The answer is slightly above %s.",
        "The answer is just under %s.",
        "The answer is bounded above by %s.",
        "The answer is a bit over %s.",
        "The answer is greater than or equal to %s.",
        "The answer is somewhere between 71 and %s.",
    ],
    "other_operations": [
        "The answer is a third of %s.",
        "The answer is quadruple %s.",
        "The answer is %s multiplied by 3.",
        "The answer is %s divided by 7.",
        "The answer is %s to the power of 5.",
        "The answer is $e$ to the power of %s.",
        "The answer is the difference between %s and 17.",
        "The answer is a tenth of %s.",
        "The answer is %s times n.",
        "The answer is the product of %s and 17.",
        "The answer is the absolute difference of %s and 17.",
    ],
    "other_conditions": [
        "The answer is %s unless $n$ is odd.",
        "The answer is %s for even $n$ and 71 for odd $n$.",
        "The answer is %s only when $n$ is prime; otherwise it is 17.",
        "The answer is %s or 71, depending on $n$.",
        "If $n$ is even the answer is %s, if $n$ is odd it is 71.",
    ],
}


def _sentence(shapes: list[str]) -> Operator:
    def operator(gold: Gold, draw: random.Random) -> Made | None:
        answer = gold.answer
        if answer.kind != "value" or answer.tree is None or len(gold.text) > 60:
            return None
        for special in (0, 1, -1, 2, 71, 17, 43, 1077):
            if not surely_different(answer.tree, number(special)):
                return None
        text = gold.text.strip("$")
        plain = re.fullmatch(r"-?[\d.,]+", text)
        if plain is None or draw.random() < 0.5:
            text = f"${text}$"
        return Made(draw.choice(shapes) % text, whole=True)

    return operator


_CORRECTIONS = [
    "\\boxed{%s}\n\nCorrection: the answer should be %s.",
    "The answer is $\\boxed{%s}$. Hmm, wait. One case is missing, so the final answer is $%s$.",
    "\\boxed{%s} is what I thought at first.\n\nThe correct answer is \\boxed{%s}.",
    "The side is $\\boxed{%s}$. Final Answer: The final answer is $%s$. I hope it is correct.",
    "We get \\boxed{%s} for one part.\n\n**Final Answer**\n\n\\boxed{%s}",
    "#### %s\n\nNo, that is wrong.\n\n#### %s",
]


def corrected(first: str, last: str, draw: random.Random) -> Made:
    """A completion that gives one answer up for another."""
    if re.search("[A-Za-z]", last):
        last = f"${last}$"
        shape = draw.choice([one for one in _CORRECTIONS if "$%s$" not in one and "boxed" in one])
        return Made(shape % (first, last), whole=True)
    return Made(draw.choice(_CORRECTIONS) % (first, last), whole=True)


def given_up(gold: Gold, draw: random.Random) -> Made | None:
    """The right answer, taken back for a wrong one."""
    other = number(draw.randint(2, 500))
    answer = gold.answer
    if answer.kind != "value" or answer.tree is None or not surely_different(answer.tree, other):
        return None
    return corrected(gold.text.replace("$", ""), other.text, draw)


REFUSALS = [
    "I do not know.",
    "I don't know the answer.",
    "No idea at all.",
    "I have no idea.",
    "Sorry, I cannot solve this problem.",
    "I am unable to determine the answer.",
    "I'm not sure.",
    "I give up.",
    "It cannot be determined.",
    "The answer cannot be determined from the information given.",
    "There is not enough information to answer.",
    "\\boxed{\\text{I do not know}}",
    "\\boxed{\\text{unknown}}",
    "\\boxed{?}",
    "\\boxed{\\text{N/A}}",
    "\\boxed{}",
    "#### unknown",
    "The final answer is: I don't know.",
    "As an AI, I can't answer that.",
    "n/a",
    "None of my attempts worked.",
    "I would need more information about 1 of the 2 steps.",
]


def refusal(gold: Gold, draw: random.Random) -> Made | None:
    if "determine" in gold.text or "enough" in gold.text or gold.text in ("1", "2"):
        return None
    return Made(draw.choice(REFUSALS), whole=True)


STRUCTURE: dict[str, Operator] = {
    operator.__name__: operator
    for operator in (
        swap_coordinates,
        one_pair_of_list,
        list_for_one_pair,
        union_for_pairs,
        missing_element,
        extra_element,
        list_for_decimal,
        decimal_of_digits,
        list_for_number,
        lost_fraction,
        lost_power,
        mixed_as_product,
        repeating_decimal,
        relation_for_value,
        plus_minus,
        interval_as_set,
        words_in_the_box,
        decimal_for_list,
        other_interval_end,
        complement,
        other_relation,
        relation_as_wrong_interval,
        intersection_for_union,
        transpose,
        swap_rows,
        other_word,
        not_word,
        other_particle,
        other_formula_index,
        other_choice,
        not_the_choice,
        two_choices,
        other_unit,
        other_date,
        other_operator,
        other_negation,
        other_operand,
        turned_implication,
        given_up,
        refusal,
    )
}
MUTATIONS: dict[str, Operator] = {
    **{name: _formula_operator(name, change) for name, change in FORMULA.items()},
    **STRUCTURE,
    **{f"sentence_{name}": _sentence(shapes) for name, shapes in SENTENCES.items()},
}
