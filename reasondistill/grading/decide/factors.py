"""Products whose factors need not commute: of matrices, and cross products of vectors.

`A^{-1}B` is not `BA^{-1}`. Which letters are matrices is a guess; so two answers that differ by the
order of such factors alone are undecided, never wrong.
"""

from __future__ import annotations

import re

from reasondistill.grading.decide import evaluate
from reasondistill.grading.decide.decision import SAME, Decision
from reasondistill.grading.read.syntax import Node, Unsupported, parse

PRODUCTS_DIFFER = Decision("wrong", "structural", "different_products")
FACTORS_EXCHANGED = Decision("undecided", "structural", "factors_exchanged")

# Bold letters are upright ones in a cleaned answer.
_BOLD_LETTER = re.compile(r"\\text\s*\{\s*([A-Za-z])\s*\}")
_BOLD = r"\\text\s*\{\s*[A-Za-z]\s*\}"
_DOT_PRODUCT = re.compile(rf"{_BOLD}\s*\\cdot\s*{_BOLD}")
_CROSS_PRODUCT = re.compile(rf"{_BOLD}\s*\\times\s*{_BOLD}")
_RAISED = (
    r"\s*\^\s*(?:\{\s*)?(?:-\s*1(?!\d)|"
    r"-?\s*(?:T|\\top|\\text\s*\{\s*T\s*\}|\\dagger|\*)(?![A-Za-z]))"
)
_INVERTED = re.compile(rf"[A-Z]\s*[}})]?{_RAISED}")
_INVERTED_PLAIN = re.compile(rf"[A-Z]\s*\)?{_RAISED}")
_BOLD_NAME = "mathcal "
_PRODUCT = ("call", "product")
_MINUS_ONE: Node = ("neg", ("num", "1"))
_TRANSPOSED: tuple[Node, ...] = (("name", "T"), ("name", "top"), ("name", "'T"))


def exchanges_dot_and_cross(a: str, b: str) -> bool:
    """Whether one answer has the dot product of two bold vectors and the other a cross product."""
    dots_a, dots_b = (_DOT_PRODUCT.search(text) is not None for text in (a, b))
    crosses_a, crosses_b = (_CROSS_PRODUCT.search(text) is not None for text in (a, b))
    return (dots_a and crosses_b and not crosses_a) or (dots_b and crosses_a and not crosses_b)


def has_ordered_factors(a: str, b: str) -> bool:
    """Whether the order of factors counts in both of two answers: they have bold letters side by
    side or crossed, or a capital letter that is inverted or transposed.
    """
    return _is_ordered(a) and _is_ordered(b)


def _is_ordered(text: str) -> bool:
    if _INVERTED.search(text) or _CROSS_PRODUCT.search(text):
        return True
    bold = _BOLD_LETTER.findall(text)
    has_matrix = any(letter.isupper() for letter in bold)
    return len(bold) > 1 and has_matrix and _DOT_PRODUCT.search(text) is None


def same_with_ordered_factors(a: str, b: str) -> Decision:
    """Whether two answers that are the same where all factors commute are so in this order, too."""
    has_capitals = _INVERTED_PLAIN.search(a) is not None or _INVERTED_PLAIN.search(b) is not None
    order = OrderedProducts(has_capitals)
    try:
        first = order.ordered(parse(_with_bold_names(a)))
        second = order.ordered(parse(_with_bold_names(b)))
        if evaluate.same_expression(first, second):
            return SAME
    except Unsupported:
        return FACTORS_EXCHANGED
    return FACTORS_EXCHANGED


def _with_bold_names(text: str) -> str:
    """The text with bold letters as names of their own, which the parser would take for plain
    ones; a T above the line stays one.
    """
    return _BOLD_LETTER.sub(r"\\mathcal{\1}", _UPRIGHT_T.sub(r"^{T}", text))


_UPRIGHT_T = re.compile(r"\^\s*(?:\{\s*)?\\text\s*\{\s*T\s*\}(?:\s*\})?")


class OrderedProducts:
    """Trees in which products of matrices have an order. Matrices are bold letters and, with
    `has_capitals`, plain capital ones.
    """

    def __init__(self, has_capitals: bool) -> None:
        self.has_capitals = has_capitals

    def ordered(self, node: Node) -> Node:
        """The tree with each product of several matrices as an unknown function of its factors; the
        inverse and the transpose of a product are those of its factors, from right to left.
        """
        if node[0] == "pow" and node[2] in (*_TRANSPOSED, _MINUS_ONE):
            factors = factors_of(node[1])
            if len(factors) > 1 and self.is_matrix(node[1]):
                return self.ordered(raised_from_right(factors, node[2]))
            if node[2] in _TRANSPOSED:
                return ("call", "transposed", self.ordered(node[1]))
        if node[0] == "mul":
            return self.ordered_product(factors_of(node))
        parts: list[object] = []
        for part in node:
            if isinstance(part, tuple):
                parts.append(self.ordered(part))
            else:
                parts.append(part)
        return tuple(parts)

    def ordered_product(self, factors: list[Node]) -> Node:
        """A product: its matrices in their order, times the other factors."""
        matrices: list[Node] = []
        others: list[Node] = []
        for factor in factors:
            part = self.ordered(factor)
            if part[:2] == _PRODUCT:
                matrices += part[2:]
            elif self.is_matrix(factor):
                matrices.append(part)
            else:
                others.append(part)
        if len(matrices) > 1:
            others.append((*_PRODUCT, *matrices))
        else:
            others += matrices
        product = others[0]
        for other in others[1:]:
            product = ("mul", product, other)
        return product

    def is_matrix(self, node: Node) -> bool:
        """Whether a matrix stands anywhere in a factor."""
        if node[0] == "name":
            name = str(node[1])
            if name.startswith(_BOLD_NAME):
                return True
            return self.has_capitals and name.removeprefix("'")[:1].isupper()
        return any(self.is_matrix(part) for part in node[1:] if isinstance(part, tuple))


def raised_from_right(factors: list[Node], exponent: Node) -> Node:
    """`(AB)^{-1}` as `B^{-1}A^{-1}`."""
    product: Node = ("pow", factors[-1], exponent)
    for factor in reversed(factors[:-1]):
        product = ("mul", product, ("pow", factor, exponent))
    return product


def factors_of(node: Node) -> list[Node]:
    """The factors of a product from left to right, brackets around products opened."""
    if node[0] != "mul":
        return [node]
    return factors_of(node[1]) + factors_of(node[2])
