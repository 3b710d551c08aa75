"""Compare two answers by their shapes, part by part; leaves as numbers, texts or expressions.

The result is True, False, or None where only a computer algebra system can tell. `compare(a, b)`
equals `compare(b, a)`.
"""

from __future__ import annotations

import re
from fractions import Fraction

import mpmath

from reasondistill.grading import evaluate
from reasondistill.grading.clean import clean, string_key
from reasondistill.grading.policies import Policy
from reasondistill.grading.quantity import (
    Quantity,
    read_quantity,
    rounds_to,
    same_quantity,
    split_unit,
)
from reasondistill.grading.regions import Region, region_of, same_region
from reasondistill.grading.special import same_special
from reasondistill.grading.structure import (
    Answer,
    Atom,
    Many,
    Matrix,
    Relation,
    Union,
    Within,
    is_name,
    read,
)
from reasondistill.grading.syntax import Node, Unsupported, parse, readings
from reasondistill.grading.units import units_agree
from reasondistill.grading.words import same_choice, same_words, without_label, wordy

Verdict = bool | None


def compare(a: str, b: str, policy: Policy) -> Verdict:
    """Whether two cleaned answers are the same; None when unknown."""
    return Comparison(policy).answers(read(a), read(b))


class Comparison:
    """One comparison under one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def answers(self, a: Answer, b: Answer) -> Verdict:
        """Dispatch on the shapes."""
        if isinstance(a, Within) or isinstance(b, Within):
            return self._within(a, b)
        if isinstance(a, Relation) or isinstance(b, Relation):
            return self._relations(a, b)
        if isinstance(a, Union) or isinstance(b, Union):
            same = self._regions(a, b)
            if same is None and isinstance(a, Union) and isinstance(b, Union):
                same = self._matching(list(a.parts), list(b.parts)) or None
            return same
        if isinstance(a, Matrix) or isinstance(b, Matrix):
            return self._matrices(a, b)
        if isinstance(a, Many) and isinstance(b, Many):
            return self._many(a, b)
        if isinstance(a, Many) or isinstance(b, Many):
            return self._many_and_one(*(a, b) if isinstance(a, Many) else (b, a))  # type: ignore[arg-type]
        return self.atoms(a.text, b.text)

    def _within(self, a: Answer, b: Answer) -> Verdict:
        """`x ∈ A` is A; where both sides name what lies in it, the names must agree."""
        if isinstance(a, Within) and isinstance(b, Within):
            return string_key(a.name) == string_key(b.name) and self.answers(a.of, b.of)
        within, other = (a, b) if isinstance(a, Within) else (b, a)
        assert isinstance(within, Within)
        listed = isinstance(other, Many) and any(isinstance(part, Relation) for part in other.parts)
        return (
            self._regions(within, other)
            if listed or isinstance(other, Relation)
            else self.answers(within.of, other)
        )

    # ---- single values ---------------------------------------------------------------------------

    def atoms(self, a: str, b: str) -> Verdict:
        """Two single values: numbers, then words, then expressions."""
        if string_key(a) == string_key(b):
            return True
        if a.endswith("\\ldots") or b.endswith("\\ldots"):
            return False
        first, second = read_quantity(a), read_quantity(b)
        if first is not None and second is not None:
            return same_quantity(first, second, self.policy)[0]
        if self._same_with_short_units(a, first, b, second):
            return True
        if (special := same_special(self, a, b)) is not None:
            return special
        if self.policy.choice_text and (bare := self._unlabelled(a, b)) is not None:
            return bare
        if (choice := same_choice(a, b, self.policy)) is not None:
            return choice
        if (measured := self._measured(a, b)) is not None:
            return measured
        words = same_words(a, b, self.policy)
        return words if words is not None else self._expressions(a, b)

    def _measured(self, a: str, b: str) -> Verdict:
        """Expressions with units, whose words are not answers in words; letters on both sides are
        algebra.
        """
        (core_a, unit_a), (core_b, unit_b) = split_unit(a), split_unit(b)
        if not (unit_a or unit_b) or wordy(core_a) or wordy(core_b):
            return None
        return self._expressions(a, b)

    def _same_with_short_units(
        self, a: str, first: Quantity | None, b: str, second: Quantity | None
    ) -> bool:
        """`3 h` beside `3 hours`: a single letter is a unit where the other side names that unit."""
        known, text = (first, b) if first is not None else (second, a)
        if (
            known is None
            or not known.unit
            or (found := read_quantity(text, short_units=True)) is None
        ):
            return False
        return bool(found.unit) and same_quantity(known, found, self.policy)[0]

    def _unlabelled(self, a: str, b: str) -> Verdict:
        """`(B) 42` beside 42: the value behind a choice's label answers a gold that is no choice."""
        for labelled, other in ((a, b), (b, a)):
            value = without_label(labelled)
            if (
                value is not None
                and without_label(other) is None
                and not re.fullmatch(r"\W*(?:\\text\s*\{)?\W*[A-J]\W*", other)
            ):
                return True if self.answers(read(value), read(other)) else None
        return None

    def _expressions(self, a: str, b: str) -> Verdict:
        """Two expressions, each perhaps with a unit or a percent sign."""
        first, unit_a = split_unit(a)
        second, unit_b = split_unit(b)
        if unit_a == "%" or unit_b == "%":
            if unit_a == unit_b:
                return self.trees(first, second)
            return not (unit_a and unit_b) and self._percent_expressions(
                *(first, second) if unit_a == "%" else (second, first)
            )
        same = self.trees(first, second)
        if same:
            return units_agree(unit_a, unit_b, self.policy)
        return True if unit_a != unit_b and self.trees(a, b) else same

    def _percent_expressions(self, percent: str, number: str) -> Verdict:
        if self.policy.percent_is_fraction and self.trees(f"({percent})/100", number):
            return True
        quantity = read_quantity(percent)
        big = quantity is None or abs(quantity.value) > 1
        return self.trees(percent, number) if self.policy.percent_is_number and big else False

    def trees(self, a: str, b: str) -> Verdict:
        """Equal trees, or a long decimal that rounds the other value."""
        if (constant_a := _CONSTANT.search(a)) and (constant_b := _CONSTANT.search(b)):
            a, b = a[: constant_a.start()], b[: constant_b.start()]
        found: Verdict = None
        for calls in readings(a, b):
            try:
                first, second = parse(a, calls), parse(b, calls)
                if self.policy.real_odd_roots:
                    first, second = _with_real_roots(first), _with_real_roots(second)
                found = evaluate.same_expression(first, second)
                found = (
                    found
                    or self._rounded(a, second)
                    or self._rounded(b, first)
                    or self._renamed(first, second)
                )
            except Unsupported:
                continue
            if found:
                return True
        return found

    def _rounded(self, decimal: str, node: Node) -> bool:
        quantity = read_quantity(decimal)
        if (
            quantity is None
            or quantity.places is None
            or quantity.places < self.policy.decimal_places
        ):
            return False
        if (value := evaluate.exact(node)) is not None:
            return rounds_to(quantity, value, self.policy)
        try:
            return _rounds_real(quantity, node, self.policy)
        except Unsupported:
            return False

    def _renamed(self, a: Node, b: Node) -> bool:
        """2n+1 and 2k+1, when the policy lets names differ."""
        names_a, names_b = evaluate.names_in(a), evaluate.names_in(b)
        if (
            not self.policy.rename_variables
            or len(names_a) != 1
            or len(names_b) != 1
            or names_a == names_b
        ):
            return False
        return evaluate.same_expression(a, _rename(b, names_b.pop(), names_a.pop()))

    # ---- several values --------------------------------------------------------------------------

    def _many(self, a: Many, b: Many) -> Verdict:
        ordered = {"tuple", "vector"}
        if {a.kind, b.kind} == ordered and self.policy.vectors_are_tuples:
            return self._in_order(a.parts, b.parts)
        if (a.kind in ordered) != (b.kind in ordered) or (a.kind != b.kind and a.kind in ordered):
            if self.policy.loose_brackets:
                return self._in_order(a.parts, b.parts)
            for named, values in ((a, b), (b, a)):
                if (
                    named.kind == "list"
                    and values.kind == "tuple"
                    and (assigned := _assigned(named))
                ):
                    return self._in_order(assigned, values.parts)
            single = next(
                (
                    many
                    for many in (a, b)
                    if many.kind == "set" and len(many.parts) == 1 and not _is_set(many.parts[0])
                ),
                None,
            )
            if single is not None:
                return self.answers(single.parts[0], b if single is a else a)
            if any(
                isinstance(part, Relation) and part.is_equation
                for many in (a, b)
                if many.kind == "list"
                for part in many.parts
            ):
                return False
            plain = all(isinstance(part, Atom) for part in (*a.parts, *b.parts))
            return False if plain or {"set", "vector"} & {a.kind, b.kind} else self._regions(a, b)
        if a.kind in ordered:
            return (a.left, a.right) == (b.left, b.right) and self._in_order(a.parts, b.parts)
        if self.policy.ordered_lists and a.kind == b.kind == "list":
            return self._in_order(a.parts, b.parts)
        if any(
            isinstance(part, Relation) and not part.is_equation for part in (*a.parts, *b.parts)
        ):
            return self._regions(a, b)
        if any(isinstance(part, Atom) and part.text == "\\ldots" for part in (*a.parts, *b.parts)):
            return self._in_order(a.parts, b.parts)
        if a.kind == b.kind == "set" and len(a.parts) != len(b.parts):
            return self._matching(self._distinct(_flat(a)), self._distinct(_flat(b)))
        return self._matching(_flat(a), _flat(b))

    def _distinct(self, parts: list[Answer]) -> list[Answer]:
        """Without elements that equal an earlier one: {0.5, 1/2} has one."""
        kept: list[Answer] = []
        for part in parts[:40]:
            if not any(self.answers(part, other) for other in kept):
                kept.append(part)
        return kept + parts[40:]

    def _in_order(self, a: tuple[Answer, ...], b: tuple[Answer, ...]) -> Verdict:
        if len(a) != len(b):
            return False
        return _all(self.answers(x, y) for x, y in zip(a, b, strict=True))

    def _matching(self, a: list[Answer], b: list[Answer]) -> Verdict:
        """Whether the elements pair up in some order; unknown when what is left over on both sides
        could.
        """
        if len(a) != len(b):
            return False
        left = list(b)
        doubtful: list[Answer] = []
        for x in a:
            unknown = False
            for i, y in enumerate(left):
                if same := self.answers(x, y):
                    left.pop(i)
                    break
                unknown = unknown or same is None
            else:
                if not unknown:
                    return False
                doubtful.append(x)
        if not doubtful:
            return True
        return (
            None if all(any(self.answers(x, y) is None for x in doubtful) for y in left) else False
        )

    def _many_and_one(self, many: Many, one: Answer) -> Verdict:
        """A list beside a single value: a single element, a decimal comma, or not the same."""
        if not isinstance(one, Atom):
            return None
        if (comma := self._decimal_comma(many, one)) is not None:
            return comma
        if many.kind == "set" and len(many.parts) == 0:
            return one.text in ("\\emptyset", "\\phi")
        if many.kind == "set" and len(many.parts) == 1 and (_is_set(many.parts[0]) or _is_set(one)):
            return False
        if len(many.parts) == 1 and many.kind in ("set", "list"):
            return self.answers(many.parts[0], one)
        if (region := region_of(one)) is not None:
            return self._same_regions(region_of(many), region)
        return False if _is_plain(one.text) or wordy(one.text) else None

    def _decimal_comma(self, many: Many, one: Atom) -> Verdict:
        """`2,74` beside `2.74`; never with three digits behind the comma, which are thousands
        elsewhere.
        """
        parts = [part.text for part in many.parts if isinstance(part, Atom)]
        if (
            not self.policy.decimal_comma
            or many.kind != "list"
            or len(parts) != 2
            or len(many.parts) != 2
            or "." not in one.text
        ):
            return None
        if not re.fullmatch(r"[-+]?\d+", parts[0]) or not re.fullmatch(
            r"\d+(?:\s*\S{0,10})", parts[1]
        ):
            return None
        first, second = read_quantity(f"{parts[0]}.{parts[1]}"), read_quantity(one.text)
        return (
            first is not None
            and second is not None
            and same_quantity(first, second, self.policy)[0]
        )

    def _matrices(self, a: Answer, b: Answer) -> Verdict:
        if isinstance(a, Matrix) and isinstance(b, Matrix):
            if [len(row) for row in a.rows] != [len(row) for row in b.rows]:
                return False
            return _all(
                self.answers(read(x), read(y))
                for r, s in zip(a.rows, b.rows, strict=True)
                for x, y in zip(r, s, strict=True)
            )
        matrix, other = (a, b) if isinstance(a, Matrix) else (b, a)
        assert isinstance(matrix, Matrix)
        if isinstance(other, Many):
            if "\\begin" in str(other):
                return None
            column = tuple(read(entry) for row in matrix.rows for entry in row)
            flat = len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows)
            loose = self.policy.loose_brackets or (
                self.policy.vectors_are_tuples and other.kind != "list"
            )
            return loose and flat and other.kind != "set" and self._in_order(column, other.parts)
        return None if "\\begin" in str(other) else False

    # ---- relations -------------------------------------------------------------------------------

    def _relations(self, a: Answer, b: Answer) -> Verdict:
        if isinstance(a, Relation) and isinstance(b, Relation) and a.is_equation and b.is_equation:
            return self._equations(a, b)
        if (
            isinstance(a, Relation)
            and isinstance(b, Relation)
            and not a.is_equation
            and not b.is_equation
        ):
            return self._inequalities(a, b)
        relation, other = (a, b) if isinstance(a, Relation) else (b, a)
        assert isinstance(relation, Relation)
        if relation.is_equation and not isinstance(other, Relation):
            value = value_of(relation)
            return False if value is None else self.answers(read(value), other)
        return self._regions(a, b)

    def _equations(self, a: Relation, b: Relation) -> Verdict:
        """The same name with the same value, or proportional differences of the sides. `1=2` equals
        no other equation.
        """
        named_a, named_b = named_value(a), named_value(b)
        if named_a is not None and named_b is not None:
            if string_key(named_a[0]) == string_key(named_b[0]):
                return self.answers(read(named_a[1]), read(named_b[1]))
            if _both_names(*named_a) or _both_names(*named_b):
                return None if self._proportional(a, b) is None else self._proportional(a, b)
        if self._same_sides(a, b):
            return True
        if len(a.sides) > 2 or len(b.sides) > 2:
            return self._matching(
                [read(side) for side in a.sides], [read(side) for side in b.sides]
            )
        return self._proportional(a, b)

    def _same_sides(self, a: Relation, b: Relation) -> bool:
        keys_a, keys_b = (
            [string_key(side) for side in a.sides],
            [string_key(side) for side in b.sides],
        )
        return len(set(keys_a)) > 1 and (keys_a == keys_b or keys_a == keys_b[::-1])

    def _proportional(self, a: Relation, b: Relation, *, positive: bool = False) -> Verdict:
        found: Verdict = None
        for calls in readings(*a.sides, *b.sides):
            try:
                first, second = _difference(a, calls), _difference(b, calls)
                if not evaluate.names_in(first) or not evaluate.names_in(second):
                    return False
                found = evaluate.proportional(first, second, positive=positive)
                if not found and not positive:
                    found = evaluate.proportional(
                        evaluate.numerator(first), evaluate.numerator(second)
                    )
            except Unsupported:
                continue
            if found:
                return True
        return found

    def _inequalities(self, a: Relation, b: Relation) -> Verdict:
        first, second = region_of(a), region_of(b)
        if first is not None and second is not None and first.name == second.name:
            return same_region(first, second)
        turned_a, turned_b = _ascending(a), _ascending(b)
        if turned_a.signs != turned_b.signs:
            return False
        if [string_key(side) for side in turned_a.sides] == [
            string_key(side) for side in turned_b.sides
        ]:
            return True
        if len(turned_a.sides) == 2:
            return self._proportional(turned_a, turned_b, positive=True)
        return self._in_order(
            tuple(read(s) for s in turned_a.sides), tuple(read(s) for s in turned_b.sides)
        )

    def _regions(self, a: Answer, b: Answer) -> Verdict:
        return self._same_regions(region_of(a), region_of(b))

    def _same_regions(self, a: Region | None, b: Region | None) -> Verdict:
        return None if a is None or b is None else same_region(a, b)


_CONSTANT = re.compile(r"\s*\+\s*[CcK]\s*\Z")


def value_of(relation: Relation) -> str | None:
    """The value that an equation states: of a name, or of an arithmetic chain that is true. None
    when it is a real equation.
    """
    if (named := named_value(relation)) is not None:
        return named[1]
    try:
        trees = [parse(side) for side in relation.sides]
        numeric = not any(evaluate.names_in(tree) for tree in trees)
        return (
            relation.sides[-1]
            if numeric and all(evaluate.same_expression(trees[0], tree) for tree in trees[1:])
            else None
        )
    except Unsupported:
        return None


def named_value(relation: Relation) -> tuple[str, str] | None:
    """(name, value) of `x = …` or `… = x`; of a chain the last value."""
    if is_name(relation.sides[0]):
        between, last = (
            {letter for side in sides for letter in _free_letters(side)}
            for sides in (relation.sides[1:-1], relation.sides[-1:])
        )
        return (relation.sides[0], relation.sides[-1]) if between <= last else None
    if is_name(relation.sides[-1]) and len(relation.sides) == 2:
        return relation.sides[-1], relation.sides[0]
    return None


def _free_letters(side: str) -> set[str]:
    return set(re.findall(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])", side))


def _both_names(name: str, value: str) -> bool:
    return is_name(name) and is_name(value)


def _difference(relation: Relation, calls: frozenset[str]) -> Node:
    return ("add", parse(relation.sides[0], calls), ("neg", parse(relation.sides[-1], calls)))


_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}


def _ascending(relation: Relation) -> Relation:
    """The same inequality written with < and ≤."""
    if any(sign in (">", ">=") for sign in relation.signs):
        return Relation(
            relation.sides[::-1], tuple(_TURNED[sign] for sign in reversed(relation.signs))
        )
    return relation


def _is_set(answer: Answer) -> bool:
    return (isinstance(answer, Many) and answer.kind == "set") or (
        isinstance(answer, Atom) and answer.text in ("\\emptyset", "\\phi")
    )


def _flat(many: Many) -> list[Answer]:
    """The elements with nested bare lists (from ±) opened; elements of a set that are written twice
    count once.
    """
    parts: list[Answer] = []
    for part in many.parts:
        parts += _flat(part) if isinstance(part, Many) and part.kind == "list" else _expanded(part)
    return (
        list(dict.fromkeys(parts))
        if many.kind == "set" or any(isinstance(part, Many) for part in parts)
        else parts
    )


def _expanded(part: Answer) -> list[Answer]:
    """`x = 1 ± √2` as an element is two elements."""
    if isinstance(part, Relation) and part.is_equation and (named := named_value(part)) is not None:
        inner = read(named[1])
        if isinstance(inner, Many) and inner.kind == "list":
            return _flat(inner)
        return [part]
    return [part]


def _assigned(many: Many) -> tuple[Answer, ...]:
    """The values of `x = 3, y = 4` in the order of the names, when every element names another one;
    else empty.
    """
    named = [
        named_value(part) if isinstance(part, Relation) and part.is_equation else None
        for part in many.parts
    ]
    known = [pair for pair in named if pair is not None]
    distinct = len({string_key(name) for name, _ in known}) == len(named)
    return (
        tuple(read(value) for _, value in sorted(known))
        if len(known) == len(named) and distinct and many.left != "or"
        else ()
    )


def _all(results: object) -> Verdict:
    """False when one is False, None when one is unknown, else True."""
    unknown = False
    for result in results:  # type: ignore[attr-defined]
        if result is False:
            return False
        unknown = unknown or result is None
    return None if unknown else True


def _is_plain(text: str) -> bool:
    try:
        parse(text)
    except Unsupported:
        return read_quantity(clean(text)) is not None
    return True


def _rounds_real(quantity: Quantity, node: Node, policy: Policy) -> bool:
    value = evaluate.real_value(node)
    if mpmath.isinf(value):
        return False
    sign, mantissa, exponent, _ = value._mpf_
    if not -400 < exponent < 400:
        return False
    exact = Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** exponent
    return rounds_to(quantity, exact, policy)


def _with_real_roots(node: Node) -> Node:
    """Powers of 1/n with an odd n as roots."""
    parts = tuple(_with_real_roots(part) if isinstance(part, tuple) else part for part in node)
    if (
        parts[0] == "pow"
        and (exponent := evaluate.exact(parts[2])) is not None
        and exponent.numerator == 1
        and exponent.denominator % 2
    ):
        return (
            ("root", parts[1], ("num", str(exponent.denominator)))
            if exponent.denominator > 1
            else parts[1]
        )
    return parts


def _rename(node: Node, old: str, new: str) -> Node:
    if node == ("name", old):
        return ("name", new)
    return tuple(_rename(part, old, new) if isinstance(part, tuple) else part for part in node)
