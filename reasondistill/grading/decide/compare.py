"""Compare two answers by their shapes, part by part; leaves as numbers, texts or expressions.

Where only a computer algebra system can tell, the decision is `OPEN`. `compare(a, b)` equals
`compare(b, a)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

import mpmath

from reasondistill.grading.decide import evaluate
from reasondistill.grading.decide.decision import (
    DIFFERENT,
    OPEN,
    SAME,
    Decision,
    all_of,
    different,
    same_if,
)
from reasondistill.grading.decide.factors import (
    PRODUCTS_DIFFER,
    exchanges_dot_and_cross,
    has_ordered_factors,
    same_with_ordered_factors,
)
from reasondistill.grading.decide.propositions import same_proposition, same_set_formula
from reasondistill.grading.decide.quantities import rounds_to, same_quantity, units_agree
from reasondistill.grading.decide.regions import Region, is_list_of_pairs, region_of, same_region
from reasondistill.grading.decide.special import same_date, same_special
from reasondistill.grading.decide.words import same_choice, same_words, without_label
from reasondistill.grading.policies import Policy
from reasondistill.grading.read.clean import clean, string_key
from reasondistill.grading.read.quantity import Quantity, read_quantity, split_unit
from reasondistill.grading.read.structure import (
    Answer,
    Atom,
    Many,
    Matrix,
    Relation,
    Restated,
    Union,
    Within,
    condition_of,
    have_different_domains,
    have_same_limits,
    is_function_of_unknown,
    is_name,
    only_counts,
    progression_of,
    read,
)
from reasondistill.grading.read.syntax import Node, Unsupported, parse, readings
from reasondistill.grading.read.units import Unit
from reasondistill.grading.read.words import has_plain_words, is_prose, phrase_of, word_key


def compare(a: str, b: str, policy: Policy) -> Decision:
    """Whether two cleaned answers are the same."""
    dates = same_date(a, b)  # before the shapes: "May 5, 2024" is no list
    if not dates.is_open:
        return dates
    if "\\cup" in a or "\\cup" in b:
        sets = same_set_formula(a, b)  # before the shapes: A ∩ (B ∪ C) is no union of intervals
        if not sets.is_open:
            return sets
    if have_different_domains(a, b):
        return different("different_domain")
    comparison = Comparison(policy)
    same = comparison.answers(read(a), read(b))
    if same.is_correct:
        return comparison.conditions_behind(a, b)
    return same


class Comparison:
    """One comparison under one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def answers(self, a: Answer, b: Answer) -> Decision:
        """Dispatch on the shapes."""
        if isinstance(a, Restated):
            return self.restatement(a, b)
        if isinstance(b, Restated):
            return self.restatement(b, a)
        if isinstance(a, Within) or isinstance(b, Within):
            return self.memberships(a, b)
        if isinstance(a, Relation) or isinstance(b, Relation):
            return self.relations(a, b)
        if isinstance(a, Union) or isinstance(b, Union):
            return self.unions(a, b)
        if isinstance(a, Matrix) or isinstance(b, Matrix):
            return self.matrices(a, b)
        if isinstance(a, Many):
            if isinstance(b, Many):
                return self.collections(a, b)
            return self.collection_and_value(a, b)
        if isinstance(b, Many):
            return self.collection_and_value(b, a)
        return self.atoms(a.text, b.text)

    def conditions_behind(self, a: str, b: str) -> Decision:
        """Whether two formulas that are the same hold under the same condition: `n` for n > 3 is
        not `n` for n > 4. Undecided where only one of them has a condition that narrows it.
        """
        first = condition_of(a)
        second = condition_of(b)
        if string_key(first) == string_key(second):
            return SAME
        if not first or not second:
            if only_counts(first or second):
                return SAME
            return CONDITION_MISSING
        same = self.answers(read(first), read(second))
        if same.is_correct:
            return SAME
        if same.is_wrong and have_same_limits(first, second):
            return different("different_condition")
        return CONDITIONS_DIFFER

    def restatement(self, twice: Restated, other: Answer) -> Decision:
        """A value said twice is each of the two, if both agree; before ≈ stands the value, whatever
        it was rounded to.
        """
        value = read(twice.value)
        if not self.agrees(twice):
            if twice.is_rounded and is_near(twice):
                return self.answers(value, other)
            return OPEN
        same = self.answers(value, other)
        if same.is_correct:
            return same
        again = self.answers(read(twice.again), other)
        if again.is_correct or same.is_wrong:
            return again
        return same

    def agrees(self, twice: Restated) -> bool:
        """Whether the second value is the first one, in percent or rounded to its places."""
        again = read_quantity(twice.again)
        if again is None:
            return self.trees(twice.value, twice.again).is_correct
        value = number_of(twice.value)
        if value is None:
            return False
        if again.percent:
            value *= 100
        error = abs(again.value - value)
        if not twice.is_rounded:
            return error == 0
        place = Fraction(10) ** -(again.places or 0)
        is_cut = abs(again.value) <= abs(value) and error < place
        return is_cut or error <= place / 2

    def unions(self, a: Answer, b: Answer) -> Decision:
        """The same set of numbers; of sets that are none of these, the same parts in any order."""
        same = self._regions(a, b)
        if same.is_open and isinstance(a, Union) and isinstance(b, Union):
            matching = self._matching(list(a.parts), list(b.parts))
            if matching.is_correct:
                return SAME
        return same

    def memberships(self, a: Answer, b: Answer) -> Decision:
        """`x ∈ A` is A; where both sides name what lies in it, the names must agree."""
        if isinstance(a, Within) and isinstance(b, Within):
            if string_key(a.name) != string_key(b.name):
                return different("different_names")
            return self.answers(a.of, b.of)
        if isinstance(a, Within):
            within = a
            other = b
        else:
            assert isinstance(b, Within)
            within = b
            other = a
        if isinstance(other, Relation):
            same = self._regions(within, other)
            if same.is_open and other.is_equation and isinstance(within.of, Atom):
                return different("membership_and_equation")
            return same
        if isinstance(other, Many) and any(isinstance(part, Relation) for part in other.parts):
            values = values_of(within.name, other)
            if values:
                return self.answers(within.of, Many("set", values, "{", "}"))
            return self._regions(within, other)
        return self.answers(within.of, other)

    # ---- single values ---------------------------------------------------------------------------

    def atoms(self, a: str, b: str) -> Decision:
        """Two single values: numbers, then words, then expressions."""
        if string_key(a) == string_key(b):
            return SAME
        if a.endswith("\\ldots") or b.endswith("\\ldots"):
            return DIFFERENT
        first = read_quantity(a)
        second = read_quantity(b)
        if first is not None and second is not None:
            return same_quantity(first, second, self.policy)
        if first is not None and self.has_same_short_unit(first, b):
            return SAME
        if first is None and second is not None and self.has_same_short_unit(second, a):
            return SAME
        for reader in (
            self.notations,
            self.behind_labels,
            self.choices,
            self.measured_expressions,
            self.words,
            same_proposition,
            self.unworded_expressions,
        ):
            same = reader(a, b)
            if not same.is_open:
                return same
        return self.phrases(a, b)

    def unworded_expressions(self, a: str, b: str) -> Decision:
        """Two expressions; open where plain words, which would be read as letters, stand in one."""
        if has_plain_words(a) or has_plain_words(b):
            return OPEN
        return self._expressions(a, b)

    def phrases(self, a: str, b: str) -> Decision:
        """Words with formulas between them: the same words with the same formulas; open when the
        words differ, or a letter that they speak of.
        """
        first = phrase_of(a)
        second = phrase_of(b)
        if first is None or second is None or first.words != second.words:
            return OPEN
        if not first.formulas or len(first.formulas) != len(second.formulas):
            return OPEN
        results: list[Decision] = []
        for x, y in zip(first.formulas, second.formulas, strict=True):
            same = self.answers(read(x), read(y))
            if same.is_wrong and _LETTER.fullmatch(x) and _LETTER.fullmatch(y):
                same = OPEN
            results.append(same)
        return all_of(results)

    def notations(self, a: str, b: str) -> Decision:
        """Clock times, ratios, dates and other values with a notation of their own."""
        return same_special(self, a, b)

    def choices(self, a: str, b: str) -> Decision:
        """`(B)` beside B, or beside what stands at its side."""
        return same_choice(a, b, self.policy)

    def words(self, a: str, b: str) -> Decision:
        """Answers in words, and numbers in words."""
        return same_words(a, b, self.policy)

    def measured_expressions(self, a: str, b: str) -> Decision:
        """Expressions with units, whose words are not answers in words; letters on both sides are
        algebra.
        """
        core_a, unit_a = split_unit(a)
        core_b, unit_b = split_unit(b)
        has_unit = unit_a or unit_b
        if not has_unit or has_words(core_a) or has_words(core_b):
            return OPEN
        return self._expressions(a, b)

    def has_same_short_unit(self, known: Quantity, text: str) -> bool:
        """`3 h` beside `3 hours`: a single letter is a unit where the other side names it."""
        if not known.unit:
            return False
        quantity = read_quantity(text, short_units=True)
        if quantity is None or not quantity.unit:
            return False
        return same_quantity(known, quantity, self.policy).is_correct

    def behind_labels(self, a: str, b: str) -> Decision:
        """`(B) 42` beside 42: what stands behind a choice's label answers a gold without one."""
        if not self.policy.choice_text:
            return OPEN
        for labelled, other in ((a, b), (b, a)):
            value = without_label(labelled)
            if value is None or without_label(other) is not None:
                continue
            if _CHOICE_LETTER.fullmatch(other):
                continue
            if self.answers(read(value), read(other)).is_correct:
                return SAME
            return OPEN
        return OPEN

    def _expressions(self, a: str, b: str) -> Decision:
        """Two expressions, each perhaps with a unit or a percent sign."""
        first, unit_a = split_unit(a)
        second, unit_b = split_unit(b)
        if unit_a == "%" or unit_b == "%":
            if unit_a == unit_b:
                return self.trees(first, second)
            if unit_a and unit_b:
                return different("different_unit")
            if unit_a == "%":
                return self.percent_and_number(first, second)
            return self.percent_and_number(second, first)
        if is_symbol_in_degrees(first, unit_a, unit_b) or is_symbol_in_degrees(
            second, unit_b, unit_a
        ):
            return different("different_unit")
        if is_degrees_beside_pi(first, unit_a, second, unit_b):
            first = f"({first})\\pi/180"
            unit_a = unit_b
        elif is_degrees_beside_pi(second, unit_b, first, unit_a):
            second = f"({second})\\pi/180"
            unit_b = unit_a
        same = self.trees(first, second)
        if same.is_correct:
            return same_if(units_agree(unit_a, unit_b, self.policy), "different_unit")
        if unit_a != unit_b:
            whole = self.trees(a, b)
            if not whole.is_open and not whole.is_wrong:
                return whole
        return same

    def percent_and_number(self, percent: str, number: str) -> Decision:
        """An expression in percent beside one without a sign, as the policy lets them be equal."""
        if self.policy.percent_is_fraction:
            same = self.trees(f"({percent})/100", number)
            if same.is_correct:
                return SAME
        if not self.policy.percent_is_number or has_letters(percent):
            return different("percent_differs")
        quantity = read_quantity(percent)
        if quantity is not None and abs(quantity.value) <= 1:
            return different("percent_differs")
        return self.trees(percent, number)

    def trees(self, a: str, b: str) -> Decision:
        """Equal trees, or a long decimal that rounds the other value; undecided where they are so
        only because factors that need not commute were exchanged.
        """
        if exchanges_dot_and_cross(a, b):
            return PRODUCTS_DIFFER
        same = self.commuting_trees(a, b)
        if same.is_correct and has_ordered_factors(a, b):
            return same_with_ordered_factors(a, b)
        return same

    def commuting_trees(self, a: str, b: str) -> Decision:
        """The same where all factors commute."""
        constant_a = _CONSTANT.search(a)
        constant_b = _CONSTANT.search(b)
        if constant_a and constant_b:
            a = a[: constant_a.start()]
            b = b[: constant_b.start()]
        same = OPEN
        for calls in readings(a, b):
            try:
                same = same_if(self._read_with(a, b, calls), "different_value")
                if not same.is_correct and constant_a and constant_b:
                    first = parse(a, calls)
                    second = parse(b, calls)
                    same = same_if(differ_by_constant(first, second), "different_value")
            except Unsupported:
                continue
            if same.is_correct:
                return SAME
        return same

    def _read_with(self, a: str, b: str, calls: frozenset[str]) -> bool:
        """Whether two expressions are the same when the letters in `calls` are functions."""
        first = parse(a, calls)
        second = parse(b, calls)
        if "\\hbar" in a or "\\hbar" in b:
            names = evaluate.names_in(first) | evaluate.names_in(second)
            if "h" in names:
                first = _substituted(first, ("name", "hbar"), _HBAR)
                second = _substituted(second, ("name", "hbar"), _HBAR)
        if self.policy.real_odd_roots:
            first = _with_real_roots(first)
            second = _with_real_roots(second)
        if evaluate.same_expression(first, second):
            return True
        if self._rounded(a, second) or self._rounded(b, first):
            return True
        return self.renamed(first, second)

    def _rounded(self, decimal: str, node: Node) -> bool:
        quantity = read_quantity(decimal)
        if quantity is None or quantity.places is None:
            return False
        if quantity.places < self.policy.decimal_places:
            return False
        value = evaluate.exact(node)
        if value is not None:
            return rounds_to(quantity, value, self.policy)
        try:
            real = exact_real(node)
        except Unsupported:
            return False
        return real is not None and rounds_to(quantity, real, self.policy)

    def renamed(self, a: Node, b: Node) -> bool:
        """2n+1 and 2k+1, when the policy lets names differ."""
        if not self.policy.rename_variables:
            return False
        names_a = evaluate.names_in(a)
        names_b = evaluate.names_in(b)
        if len(names_a) != 1 or len(names_b) != 1:
            return False
        if names_a == names_b:
            return False
        try:
            return evaluate.same_expression(a, _rename(b, names_b.pop(), names_a.pop()))
        except Unsupported:
            return False

    # ---- several values --------------------------------------------------------------------------

    def collections(self, a: Many, b: Many) -> Decision:
        """Two lists, sets, tuples or vectors: in order where brackets say so, else in any order."""
        if {a.kind, b.kind} == _ORDERED and self.policy.vectors_are_tuples:
            return self._in_order(a.parts, b.parts)
        if a.kind != b.kind and (a.kind in _ORDERED or b.kind in _ORDERED):
            return self.ordered_and_other(a, b)
        if a.kind in _ORDERED:
            if (a.left, a.right) != (b.left, b.right):
                return different("different_brackets")
            return self._in_order(a.parts, b.parts)
        if self.policy.ordered_lists and a.kind == b.kind == "list":
            return self._in_order(a.parts, b.parts)
        if a.kind == b.kind == "list":
            same = self.labelled(a, b)
            if not same.is_open:
                return same
            same = self.counts(a, b)
            if not same.is_open:
                return same
        parts = (*a.parts, *b.parts)
        if joined_otherwise(a, b):
            return different("joined_otherwise")
        if any(isinstance(part, Relation) and not part.is_equation for part in parts):
            return self.conditions(a, b)
        if any(isinstance(part, Atom) and part.text == "\\ldots" for part in parts):
            return self.continued(a, b)
        if "set" in (a.kind, b.kind) and sets_among(a) != sets_among(b):
            return different("different_brackets")
        if a.kind == b.kind == "set" and len(a.parts) != len(b.parts):
            return self._matching(self._distinct(_flat(a)), self._distinct(_flat(b)))
        return self._matching(_flat(a), _flat(b))

    def labelled(self, a: Many, b: Many) -> Decision:
        """Values under the labels of parts, (a) and (b), beside others: those under one label, or,
        where only one side has labels, those in one place. Open where neither has.
        """
        values_a = labelled_values(a)
        values_b = labelled_values(b)
        if not values_a and not values_b:
            return OPEN
        return self._in_order(values_a or a.parts, values_b or b.parts)

    def counts(self, a: Many, b: Many) -> Decision:
        """`4 men and 3 women`: how many of each. Undecided where the nouns differ and so does the
        order; open where not every element counts something of its own.
        """
        counts_a = counted(a)
        counts_b = counted(b)
        if not counts_a or not counts_b or len(counts_a) != len(counts_b):
            return OPEN
        in_order = self._in_order(list(counts_a.values()), list(counts_b.values()))
        if counts_a.keys() != counts_b.keys():
            if (
                in_order.is_wrong
                and self._matching(list(counts_a.values()), list(counts_b.values())).is_correct
            ):
                return OTHER_NOUNS
            return in_order
        return self._in_order(list(counts_a.values()), [counts_b[noun] for noun in counts_a])

    def conditions(self, a: Many, b: Many) -> Decision:
        """Inequalities with other conditions beside them: the same set of numbers, or the same
        conditions in any order.
        """
        same = self._regions(a, b)
        if same.is_open and a.kind == b.kind and self._matching(_flat(a), _flat(b)).is_correct:
            return SAME
        return same

    def continued(self, a: Many, b: Many) -> Decision:
        """`1, 2, …, 10` beside another list with dots, or one written out: in order, or the same
        steps of one arithmetic progression.
        """
        in_order = self._in_order(a.parts, b.parts)
        if in_order.is_correct:
            return SAME
        first = progression_of(a)
        second = progression_of(b)
        if first is None or second is None:
            return in_order
        if (first.start, first.step) != (second.start, second.step):
            return different("different_progression")
        if first.last is None or second.last is None:
            return same_if(first.last == second.last, "different_progression")
        return self.answers(first.last, second.last)

    def ordered_and_other(self, a: Many, b: Many) -> Decision:
        """A tuple or vector beside a collection of another kind: `x = 3, y = 4` is (3, 4), {x} is
        x, an interval may be an inequality; else they differ.
        """
        if self.policy.loose_brackets:
            return self._in_order(a.parts, b.parts)
        for named, values in ((a, b), (b, a)):
            if named.kind == "list" and values.kind == "tuple":
                assigned = assigned_values(named)
                if assigned:
                    return self._in_order(assigned, values.parts)
        for many, other in ((a, b), (b, a)):
            if many.kind == "set" and len(many.parts) == 1 and not _is_set(many.parts[0]):
                return self.answers(many.parts[0], other)
        if _lists_equation(a) or _lists_equation(b):
            return DIFFERENT
        if all(isinstance(part, Atom) for part in (*a.parts, *b.parts)):
            return different("different_brackets")
        if is_list_of_pairs(a) or is_list_of_pairs(b):
            return different("different_length")
        if {"set", "vector"} & {a.kind, b.kind}:
            return different("different_brackets")
        return self._regions(a, b)

    def _distinct(self, parts: list[Answer]) -> list[Answer]:
        """Without elements that equal an earlier one: {0.5, 1/2} has one."""
        distinct: list[Answer] = []
        for part in parts[:40]:
            if not any(self.answers(part, other).is_correct for other in distinct):
                distinct.append(part)
        return distinct + parts[40:]

    def _in_order(self, a: Sequence[Answer], b: Sequence[Answer]) -> Decision:
        if len(a) != len(b):
            return different("different_length")
        return all_of(self.entries(x, y) for x, y in zip(a, b, strict=True))

    def _matching(self, a: list[Answer], b: list[Answer]) -> Decision:
        """Whether the elements pair up in some order; undecided when what is left over on both
        sides could, for good rather than open.
        """
        if len(a) != len(b):
            return different("different_length")
        left = list(b)
        doubtful: list[Answer] = []
        doubt = OPEN
        for x in a:
            is_doubtful = False
            for i, y in enumerate(left):
                same = self.answers(x, y)
                if same.is_correct:
                    left.pop(i)
                    break
                is_doubtful = is_doubtful or same.is_undecided
                if same.is_undecided and doubt.is_open:
                    doubt = same
            else:
                if not is_doubtful:
                    return different("missing_element")
                doubtful.append(x)
        if not doubtful:
            return SAME
        for y in left:
            if not any(self.answers(x, y).is_undecided for x in doubtful):
                return different("missing_element")
        return doubt

    def collection_and_value(self, many: Many, one: Answer) -> Decision:
        """A list beside a single value: a single element, a decimal comma, or not the same."""
        if not isinstance(one, Atom):
            return OPEN
        joined = self.joined_by_commas(many, one)
        if not joined.is_open:
            return joined
        if many.kind == "set":
            if len(many.parts) == 0:
                return same_if(one.text in ("\\emptyset", "\\phi"))
            if len(many.parts) == 1 and (_is_set(many.parts[0]) or _is_set(one)):
                return different("different_brackets")
            if len(many.parts) == 1 and is_name(one.text):  # {x} is a set of a symbol
                return different("different_brackets")
        if len(many.parts) == 1 and many.kind in ("set", "list"):
            return self.answers(many.parts[0], one)
        choices = letters_of(many)
        if choices is not None and _SEVERAL_CHOICES.fullmatch(one.text):
            return same_if(sorted(choices) == sorted(_OPTION.findall(one.text)), "different_choice")
        if _STATEMENTS.fullmatch(one.text):
            numbers = [part.text.strip("() ") for part in many.parts if isinstance(part, Atom)]
            same_numbers = sorted(numbers) == sorted(re.findall(r"\d+", one.text))
            return same_if(same_numbers and len(numbers) == len(many.parts), "different_choice")
        region = region_of(one)
        if region is not None:
            return self._same_regions(region_of(many), region)
        if _is_plain(one.text) or has_words(one.text):
            return different("different_length")
        return OPEN

    def joined_by_commas(self, many: Many, one: Atom) -> Decision:
        """Digits with bare commas that are one number: `2,74` beside `2.74`, `1,00,000` beside
        100000. `2, 74` and "2 and 74" are two numbers.
        """
        if many.kind != "list" or many.left != ",":
            return OPEN
        texts = [part.text for part in many.parts if isinstance(part, Atom)]
        if len(texts) < len(many.parts):
            return OPEN
        written = ",".join(texts)
        if _LAKHS.fullmatch(written):
            joined = "".join(texts)
        elif _EUROPEAN.fullmatch(written):
            joined = texts[0].replace(".", "") + "." + texts[1]
        elif len(texts) == 2 and self.policy.decimal_comma and "." in one.text:
            joined = ".".join(texts)
        elif self.policy.decimal_comma and _DECIMAL_COMMA.fullmatch(written):
            same = self.answers(Atom(".".join(texts)), one)
            if same.is_correct:
                return SAME
            return OPEN
        else:
            return OPEN
        return self.answers(Atom(joined), one)

    def matrices(self, a: Answer, b: Answer) -> Decision:
        """Two matrices entry by entry, or a matrix beside what may be a vector."""
        if isinstance(a, Matrix) and isinstance(b, Matrix):
            if [len(row) for row in a.rows] != [len(row) for row in b.rows]:
                return different("different_shape")
            entries = zip(_entries(a), _entries(b), strict=True)
            return all_of(self.entries(x, y) for x, y in entries)
        if isinstance(a, Matrix):
            return self._matrix_and_other(a, b)
        assert isinstance(b, Matrix)
        return self._matrix_and_other(b, a)

    def entries(self, a: Answer, b: Answer) -> Decision:
        """Two entries of a matrix or a tuple: a letter is a name there, and no choice."""
        if is_letter(a) and is_letter(b):
            return same_if(a == b, "different_names")
        return self.answers(a, b)

    def _matrix_and_other(self, matrix: Matrix, other: Answer) -> Decision:
        if "\\begin" in str(other):
            return OPEN
        if not isinstance(other, Many) or other.kind == "set":
            return different("different_shape")
        is_flat = len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows)
        may_be_tuple = self.policy.vectors_are_tuples and other.kind != "list"
        if not is_flat or not (self.policy.loose_brackets or may_be_tuple):
            return different("different_shape")
        return self._in_order(list(_entries(matrix)), other.parts)

    # ---- relations -------------------------------------------------------------------------------

    def relations(self, a: Answer, b: Answer) -> Decision:
        """An equation or inequality beside another, or beside the value that it states."""
        if isinstance(a, Relation) and isinstance(b, Relation):
            if a.is_equation and b.is_equation:
                return self.equations(a, b)
            if not a.is_equation and not b.is_equation:
                return self.inequalities(a, b)
            return self._regions(a, b)
        if isinstance(a, Relation):
            return self._relation_and_value(a, b)
        assert isinstance(b, Relation)
        return self._relation_and_value(b, a)

    def _relation_and_value(self, relation: Relation, other: Answer) -> Decision:
        if not relation.is_equation:
            same = self._regions(relation, other)
            if same.is_open and is_value(other):
                return different("relation_and_value")
            return same
        value = value_of(relation)
        if value is None:
            return DIFFERENT
        same = self.answers(read(value), other)
        if same.is_correct and any(is_function_of_unknown(side) for side in relation.sides):
            return EQUATION_OR_VALUE
        return same

    def equations(self, a: Relation, b: Relation) -> Decision:
        """The same name with the same value, or proportional differences of the sides. `1=2` equals
        no other equation.
        """
        named_a = named_value(a)
        named_b = named_value(b)
        if named_a is not None and named_b is not None:
            if string_key(named_a[0]) == string_key(named_b[0]):
                return self.answers(read(named_a[1]), read(named_b[1]))
            if _both_names(*named_a) or _both_names(*named_b):
                return self._proportional(a, b)
        if has_same_sides(a, b):
            return SAME
        if len(a.sides) > 2 or len(b.sides) > 2:
            sides_a = [read(side) for side in a.sides]
            sides_b = [read(side) for side in b.sides]
            return self._matching(sides_a, sides_b)
        return self._proportional(a, b)

    def _proportional(self, a: Relation, b: Relation, *, positive: bool = False) -> Decision:
        same = OPEN
        for calls in readings(*a.sides, *b.sides):
            try:
                first = _difference(a, calls)
                second = _difference(b, calls)
                if not evaluate.names_in(first) or not evaluate.names_in(second):
                    return DIFFERENT
                is_same = evaluate.proportional(first, second, positive=positive)
                if not is_same and not positive:
                    top_a = evaluate.numerator(first)
                    top_b = evaluate.numerator(second)
                    is_same = evaluate.proportional(top_a, top_b)
            except Unsupported:
                continue
            if is_same:
                return SAME
            same = different("different_equation")
        return same

    def inequalities(self, a: Relation, b: Relation) -> Decision:
        """The same set of numbers, or the same sides up to a positive factor."""
        first = region_of(a)
        second = region_of(b)
        if first is not None and second is not None and first.name == second.name:
            return same_if(same_region(first, second), "different_region")
        turned_a = _ascending(a)
        turned_b = _ascending(b)
        if turned_a.signs != turned_b.signs:
            return different("different_signs")
        if _side_keys(turned_a) == _side_keys(turned_b):
            return SAME
        if len(turned_a.sides) == 2:
            return self._proportional(turned_a, turned_b, positive=True)
        sides_a = [read(side) for side in turned_a.sides]
        sides_b = [read(side) for side in turned_b.sides]
        return self._in_order(sides_a, sides_b)

    def _regions(self, a: Answer, b: Answer) -> Decision:
        if is_list_of_pairs(a) or is_list_of_pairs(b):
            return PAIRS_OR_INTERVALS
        return self._same_regions(region_of(a), region_of(b))

    def _same_regions(self, a: Region | None, b: Region | None) -> Decision:
        if a is None or b is None:
            return OPEN
        return same_if(same_region(a, b), "different_region")


# Indian grouping: 12,34,567.
_LAKHS = re.compile(r"[-+]?[1-9]\d?(?:,\d\d)+,\d{3}(?:\s*\S{0,10})")
# Points that group thousands, and a comma for the decimals: €1.250,00.
_EUROPEAN = re.compile(r"[^\d,]{0,10}[1-9]\d{0,2}(?:\.\d{3})+,\d\d(?!\d)[^,]{0,20}")
# `0,5` and `2,5\cdot 10^3`; 2,0 may list two numbers.
# Which of several statements are right: `(1)(3)`, beside a list.
_STATEMENTS = re.compile(r"(?:\(\d{1,2}\)\s*){2,}")
_DECIMAL_COMMA = re.compile(
    r"-?(?:0,(?=\d*[1-9])\d{1,12}|\d+,(?!0)\d{1,2})(?:\s*(?:\\cdot|"
    r"\\times)\s*10\s*\^\s*\{?-?\d+\}?)?"
)
_LETTER = re.compile(r"[A-Za-z]")
_CONSTANT = re.compile(r"\s*\+\s*[CcK]\s*\Z")
CONDITION_MISSING = Decision("undecided", "structural", "condition_missing")
CONDITIONS_DIFFER = Decision("undecided", "structural", "conditions_differ")
OTHER_NOUNS = Decision("undecided", "structural", "other_nouns")
EQUATION_OR_VALUE = Decision("undecided", "structural", "equation_or_value")
PAIRS_OR_INTERVALS = Decision("undecided", "structural", "pairs_or_intervals")
_ONE_DEGREE = (("degree", 1),)
_RADIANS = ((), (("rad", 1),))
_PI = re.compile(r"\\pi(?![A-Za-z])")
_CHOICE_LETTER = re.compile(r"\W*(?:\\text\s*\{)?\W*[A-J]\W*")
_ORDERED = {"tuple", "vector"}


def is_symbol_in_degrees(core: str, unit: Unit, other: Unit) -> bool:
    """Whether an answer is a symbol with a degree sign, the other without a unit: x° is not x."""
    return unit == _ONE_DEGREE and not other and is_name(core)


def is_degrees_beside_pi(degrees: str, unit: Unit, other: str, other_unit: Unit) -> bool:
    """Whether the first is an angle in degrees and the second one in radians: 60° beside π/3."""
    if unit != _ONE_DEGREE or other_unit not in _RADIANS:
        return False
    return _PI.search(other) is not None and _PI.search(degrees) is None


def is_value(answer: Answer) -> bool:
    """Whether an answer is one value: no set of numbers, and readable as an expression."""
    return isinstance(answer, Atom) and region_of(answer) is None and _is_plain(answer.text)


def is_word(answer: Answer) -> bool:
    """Whether an answer is words alone: Bob, blue whale."""
    if not isinstance(answer, Atom):
        return False
    return is_prose(answer.text) or (answer.text.isalpha() and len(answer.text) > 2)


def is_letter(answer: Answer) -> bool:
    """Whether an answer is a single Latin letter."""
    return isinstance(answer, Atom) and _LETTER.fullmatch(answer.text) is not None


def has_words(text: str) -> bool:
    """Whether a text is prose, or has plain words among its formulas."""
    return is_prose(text) or has_plain_words(text)


# AC, (A)(C): several choices without anything between them.
_SEVERAL_CHOICES = re.compile(r"(?:\\text\s*\{)?\s*(?:\(?[A-J]\)?\s*){2,10}\}?")
_OPTION = re.compile(r"[A-J]")


def letters_of(many: Many) -> list[str] | None:
    """The letters of a list of choices; None when something else is in it."""
    if many.kind != "list":
        return None
    letters: list[str] = []
    for part in many.parts:
        if not isinstance(part, Atom):
            return None
        letter = part.text.removeprefix("\\text").strip("{}() .")
        if not _OPTION.fullmatch(letter):
            return None
        letters.append(letter)
    return letters


def value_of(relation: Relation) -> str | None:
    """The value that an equation states: of a name, or of an arithmetic chain that is true. None
    when it is a real equation.
    """
    named = named_value(relation)
    if named is not None:
        return named[1]
    try:
        trees = [parse(side) for side in relation.sides]
        if len(trees) > 2 and is_substituted(trees[0], trees[1]):
            trees = trees[1:]
        has_names = any(evaluate.names_in(tree) for tree in trees)
        if not has_names and all(evaluate.same_expression(trees[0], tree) for tree in trees[1:]):
            return relation.sides[-1]
        if len(trees) == 2 and is_measure(trees[0], trees[1]):
            return relation.sides[1]
    except Unsupported:
        pass  # what cannot be evaluated is no chain
    return None


def is_measure(left: Node, right: Node) -> bool:
    """Whether an equation states what a function of a function of names is, in other names:
    √(log₂ P) = (F₃₀ - 2)·√(log₃ 2). `\\sqrt{x} = 5` and `\\ln y = kt` are equations.
    """
    names = evaluate.names_in(left)
    others = evaluate.names_in(right)
    if not names or not others or names & others or left[0] not in ("fn", "root", "log"):
        return False
    inner = left[1]
    if left[0] == "fn":
        inner = left[2]
    return inner[0] in ("fn", "root", "log")


def is_substituted(general: Node, special: Node) -> bool:
    """Whether the second tree is the first with numbers for its letters: 25+11 for m+n. The circle
    x²+y² = 25 = 5² is none.
    """
    if general[0] == "name":
        return not evaluate.names_in(special)
    if general[0] != special[0] or len(general) != len(special):
        return False
    for part, other in zip(general[1:], special[1:], strict=True):
        if not isinstance(part, tuple) or not isinstance(other, tuple):
            if part != other:
                return False
        elif not is_substituted(part, other):
            return False
    return True


def named_value(relation: Relation) -> tuple[str, str] | None:
    """(name, value) of `x = …` or `… = x`; of a chain the last value."""
    first = relation.sides[0]
    last = relation.sides[-1]
    if is_name(first):
        letters_between = free_letters(relation.sides[1:-1])
        if letters_between <= free_letters([last]):
            return first, last
        return None
    if is_name(last) and len(relation.sides) == 2:
        return last, first
    return None


def free_letters(sides: Sequence[str]) -> set[str]:
    """The letters that stand alone in any of these expressions: the x of `2x + \\sin x`."""
    letters: set[str] = set()
    for side in sides:
        letters.update(re.findall(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])", side))
    return letters


def has_same_sides(a: Relation, b: Relation) -> bool:
    """Whether two equations have the same sides, perhaps swapped; `1 = 1` says nothing."""
    keys_a = _side_keys(a)
    keys_b = _side_keys(b)
    return len(set(keys_a)) > 1 and keys_a in (keys_b, keys_b[::-1])


def _side_keys(relation: Relation) -> list[str]:
    return [string_key(side) for side in relation.sides]


def _both_names(name: str, value: str) -> bool:
    return is_name(name) and is_name(value)


def _difference(relation: Relation, calls: frozenset[str]) -> Node:
    left = parse(relation.sides[0], calls)
    right = parse(relation.sides[-1], calls)
    return ("add", left, ("neg", right))


_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}


def _ascending(relation: Relation) -> Relation:
    """The same inequality written with < and ≤."""
    if any(sign in (">", ">=") for sign in relation.signs):
        signs = tuple(_TURNED[sign] for sign in reversed(relation.signs))
        return Relation(relation.sides[::-1], signs)
    return relation


_PART_NAME = "\\text{part"


def labelled_values(many: Many) -> tuple[Answer, ...]:
    """The values under the labels (a), (b) of parts, in the order of the labels; empty when the
    elements have none.
    """
    for part in many.parts:
        if not isinstance(part, Relation) or not part.sides[0].startswith(_PART_NAME):
            return ()
    return assigned_values(many)


def counted(many: Many) -> dict[str, Answer]:
    """How many of what, by the noun, when every element of a list counts something else; else
    empty.
    """
    counts: dict[str, Answer] = {}
    for part in many.parts:
        if not isinstance(part, Atom):
            return {}
        match = _NUMBER_AND_NOUN.fullmatch(part.text)
        quantity = read_quantity(part.text)
        if match is None or quantity is None or not quantity.is_count:
            return {}
        noun = _SCALE_WORDS.sub("", word_key(match[2])).removesuffix("s")
        if not noun or noun in counts:
            return {}
        counts[noun] = part
    if len(counts) < 2:
        return {}
    return counts


_SCALE_WORDS = re.compile(r"\A(?:dozen|gross|hundred|thousand|million|billion)\s+")
_NUMBER_AND_NOUN = re.compile(r"([-+]?\d[\d.,/]*)\s*(\\text\s*\{[^{}]*\}|[A-Za-z][A-Za-z\s-]*)")


def _is_set(answer: Answer) -> bool:
    if isinstance(answer, Many):
        return answer.kind == "set"
    return isinstance(answer, Atom) and answer.text in ("\\emptyset", "\\phi")


def sets_among(many: Many) -> bool:
    """Whether any element is a set itself: {{1}, {2}} is not {1, 2}."""
    return any(_is_set(part) for part in many.parts)


def _lists_equation(many: Many) -> bool:
    """Whether an element of a bare list is an equation."""
    if many.kind != "list":
        return False
    return any(isinstance(part, Relation) and part.is_equation for part in many.parts)


def _entries(matrix: Matrix) -> Iterator[Answer]:
    for row in matrix.rows:
        for entry in row:
            yield read(entry)


def joined_otherwise(a: Many, b: Many) -> bool:
    """Whether one list says "or" and the other "and" of words or of several names: `x = 2 ∨ y = 3`
    is not `x = 2 ∧ y = 3`. Of one name both mean its values.
    """
    if (a.left == "or") == (b.left == "or"):
        return False
    if a.right == "sign" and b.right == "sign":
        return True
    parts = (*a.parts, *b.parts)
    if a.left and b.left and all(is_word(part) for part in parts):
        return True
    names: set[str] = set()
    for part in parts:
        if isinstance(part, Relation) and part.is_equation:
            named = named_value(part)
            if named is not None:
                names.add(string_key(named[0]))
    return len(names) > 1


def _flat(many: Many) -> list[Answer]:
    """The elements with nested bare lists (from ±) opened; in a set, and in a list of tuples, each
    one counts once; in a list of values as often as it stands there.
    """
    parts: list[Answer] = []
    for part in many.parts:
        if isinstance(part, Many) and part.kind == "list":
            parts += _flat(part)
        else:
            parts += expanded(part)
    if many.kind == "set" or any(isinstance(part, Many) for part in parts):
        return list(dict.fromkeys(parts))
    return parts


def expanded(part: Answer) -> list[Answer]:
    """The elements that one element stands for: `x = 1 ± √2` is two."""
    if isinstance(part, Relation) and part.is_equation:
        named = named_value(part)
        if named is not None:
            inner = read(named[1])
            if isinstance(inner, Many) and inner.kind == "list":
                return _flat(inner)
    return [part]


def assigned_values(many: Many) -> tuple[Answer, ...]:
    """The values of `x = 3, y = 4` in the order of the names, when every element names another one;
    else empty.
    """
    if many.left == "or":
        return ()
    pairs: list[tuple[str, str]] = []
    for part in many.parts:
        named = None
        if isinstance(part, Relation) and part.is_equation:
            named = named_value(part)
        if named is None:
            return ()
        pairs.append(named)
    names = {string_key(name) for name, _ in pairs}
    if len(names) < len(pairs):
        return ()
    return tuple(read(value) for _, value in sorted(pairs))


def values_of(name: str, many: Many) -> tuple[Answer, ...]:
    """The values of `x = 1` or `x = 2`, all of this name; else empty."""
    values: list[Answer] = []
    for part in many.parts:
        named = None
        if isinstance(part, Relation) and part.is_equation:
            named = named_value(part)
        if named is None or string_key(named[0]) != string_key(name):
            return ()
        values.append(read(named[1]))
    return tuple(values)


def _is_plain(text: str) -> bool:
    try:
        parse(text)
    except Unsupported:
        return read_quantity(clean(text)) is not None
    return True


def has_letters(text: str) -> bool:
    """Whether an expression has names in it, or cannot be read."""
    try:
        return bool(evaluate.names_in(parse(text)))
    except Unsupported:
        return True


def number_of(text: str) -> Fraction | None:
    """The real value of a number or of an expression without letters, its unit left out; None when
    it has none.
    """
    core, _ = split_unit(text)
    quantity = read_quantity(core)
    if quantity is not None:
        return quantity.value
    try:
        node = parse(core)
        if evaluate.names_in(node):
            return None
        return evaluate.exact(node) or exact_real(node)
    except Unsupported:
        return None


def is_near(twice: Restated) -> bool:
    """Whether what stands behind ≈ is at most 5 % off, or cannot be computed: 2 ≈ 3 is no
    rounding.
    """
    again = read_quantity(twice.again)
    value = number_of(twice.value)
    if again is None or value is None or again.percent:
        return True
    return abs(again.value - value) <= abs(value) / 20


def exact_real(node: Node) -> Fraction | None:
    """The real value of a tree as it is held in high precision; None when it is infinite or of an
    extreme size. Raises Unsupported when there is none.
    """
    value = evaluate.real_value(node)
    if mpmath.isinf(value):
        return None
    sign, mantissa, exponent, _ = value._mpf_
    if not -400 < exponent < 400:
        return None
    return Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** exponent


def _with_real_roots(node: Node) -> Node:
    """Powers of 1/n with an odd n as roots."""
    parts = tuple(_with_real_roots(part) if isinstance(part, tuple) else part for part in node)
    if parts[0] != "pow":
        return parts
    exponent = evaluate.exact(parts[2])
    if exponent is None or exponent.numerator != 1 or exponent.denominator % 2 == 0:
        return parts
    if exponent.denominator == 1:
        return parts[1]
    return ("root", parts[1], ("num", str(exponent.denominator)))


def differ_by_constant(a: Node, b: Node) -> bool:
    """Whether two antiderivatives, their `+ C` left out, differ by a number. Letters beside a c of
    the same alphabet, as in a + b + c, say that it is a name.
    """
    names = evaluate.names_in(a) | evaluate.names_in(b)
    if names & _COEFFICIENTS or not names & _VARIABLES:
        return False
    difference: Node = ("add", a, ("neg", b))
    elsewhere = difference
    for name in sorted(names):
        elsewhere = _rename(elsewhere, name, f"{name}'")
    return evaluate.same_expression(difference, elsewhere)


_VARIABLES = frozenset({"x", "y", "t", "u", "s", "z", "w", "v", "r", "theta", "phi"})
_COEFFICIENTS = frozenset({"a", "b", "A", "B", "J"})
_HBAR: Node = ("div", ("name", "h"), ("mul", ("num", "2"), ("const", "pi")))


def _rename(node: Node, old: str, new: str) -> Node:
    return _substituted(node, ("name", old), ("name", new))


def _substituted(node: Node, old: Node, new: Node) -> Node:
    if node == old:
        return new
    return tuple(_substituted(part, old, new) if isinstance(part, tuple) else part for part in node)
