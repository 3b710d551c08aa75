"""What the type of a column makes of its values: looked at before a value is.

    schema = pq.read_schema(path)
    require_texts(path.name, schema, ["question", "answer"])     # DataError: answer is binary
    read = row_reader(schema)
    fields = read(fields)                # a label's name, 3.14 for the float32 3.140000104904175

A file says of a column what Python's value no longer says: which names the numbers of a ClassLabel
have, that a number had seven digits. A value that would be another one as text is refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time, timedelta
from decimal import Decimal, DecimalException
from typing import Any, cast

from reasondistill.errors import DataError

Read = Callable[[Any], Any]

# Under this key of a schema `datasets` keeps what it knows of the columns.
_FEATURES = b"huggingface"
# An exponent beyond this is not written out in digits.
_MOST_DIGITS = 400
# From here on not every whole number is a double.
_LAST_WHOLE = 2.0**53


# ---- one value -----------------------------------------------------------------------------------


def as_text(value: Any) -> str:
    """A cell as text. JSON has one kind of number, so 43.0 is written 43; a missing value, and what
    is no number (NaN), is empty.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        if value.is_integer():
            # The digits that were written: int(1e23) has others. And -0.0 + 0.0 is 0.
            return f"{Decimal(repr(value + 0.0)):.0f}"
        return str(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS:
        return f"{value:f}"
    return str(value)


def no_text(value: Any) -> str | None:
    """What a value is that has no reading as a text; None for one that has."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes"
    if isinstance(value, datetime):
        return "a point in time"
    if isinstance(value, time):
        return "a time of day"
    if isinstance(value, timedelta):
        return "a duration"
    return None


def is_infinite(value: Any) -> bool:
    """Whether a value is beyond what its column's type holds: 1E400 in a column of doubles."""
    return isinstance(value, float) and math.isinf(value)


def may_be_rounded(value: Any) -> bool:
    """Whether a double is so large that it may stand for several whole numbers."""
    return isinstance(value, float) and abs(value) >= _LAST_WHOLE and math.isfinite(value)


def exact_number(text: str) -> float | Decimal:
    """A number of JSON as it is written: a float where that writes the same number, else a Decimal.

    Raises ValueError for an exponent that no reader takes.
    """
    value = float(text)
    # So few digits come back as they were.
    if len(text) <= 15 and value != 0 and math.isfinite(value):
        return value
    try:
        exact = Decimal(text)
        if math.isfinite(value) and Decimal(repr(value)) == exact:
            return value
    except DecimalException:
        raise ValueError("a number with an exponent beyond all bounds") from None
    return exact


# ---- a schema ------------------------------------------------------------------------------------


def require_texts(place: str, schema: Any, fields: Iterable[str]) -> None:
    """Raise DataError for the first of these (dotted) fields whose column cannot be a text:
    `d.parquet: answer: is a column of binary; …`.
    """
    for field in fields:
        kind = _type_at(schema, field)
        if kind is None:
            continue
        fault = _fault_of(kind)
        if fault is not None:
            raise DataError(f"{place}: {field}: is a column of {kind}; {fault}.")


def row_reader(schema: Any) -> Read | None:
    """What turns a row into the values that its file means; None where they are so already."""
    return _struct_reader(schema, _features_of(schema))


class Picture(dict[str, Any]):
    """The value of a column of pictures: where the picture lies, and perhaps its bytes. Nobody
    looks into it.
    """


def picture_columns(schema: Any) -> list[str]:
    """The columns of pictures, or of lists of them."""
    features = _features_of(schema)
    return [field.name for field in schema if _holds_pictures(field.type, features.get(field.name))]


def _holds_pictures(kind: Any, feature: Any) -> bool:
    if _is_list(kind):
        return _holds_pictures(kind.value_type, _inner_feature(feature))
    return _is_picture(kind, feature)


def _is_picture(kind: Any, feature: Any) -> bool:
    """Whether a column is said to hold pictures, or nothing is said of it and it has the shape in
    which `datasets` keeps them.
    """
    from pyarrow import types

    said = None
    if isinstance(feature, dict):
        said = cast("dict[str, Any]", feature).get("_type")
    if isinstance(said, str):
        return said == "Image"
    if not types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
        return False
    return types.is_binary(kind.field("bytes").type) or types.is_large_binary(
        kind.field("bytes").type
    )


def _as_picture(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return Picture(cast("Mapping[str, Any]", value))
    return Picture(path=value)


def _type_at(schema: Any, name: str) -> Any:
    """The type of a dotted name; None where the schema has no such column, or several."""
    from pyarrow import types

    if schema.names.count(name) == 1:
        return schema.field(name).type
    first, *parts = name.split(".")
    if schema.names.count(first) != 1:
        return None
    kind = schema.field(first).type
    for part in parts:
        if types.is_struct(kind) and kind.get_field_index(part) >= 0:
            kind = kind.field(part).type
        elif _is_list(kind) and part.isdigit():
            kind = kind.value_type
        else:
            return None
    return kind


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


_AS_TEXT = "write it as the text that an answer would have"
_TIMES = f'{_AS_TEXT} (source = "file" reads the text of a .jsonl or .csv file as it is)'


def _fault_of(kind: Any) -> str | None:
    """Why values of a type cannot be texts, and what to do; None for one that can."""
    from pyarrow import types

    if _is_list(kind):
        return _fault_of(kind.value_type)
    if types.is_dictionary(kind):
        return _fault_of(kind.value_type)
    if types.is_struct(kind):
        faults = (_fault_of(kind.field(place).type) for place in range(kind.num_fields))
        return next((fault for fault in faults if fault), None)
    if types.is_map(kind):
        return "a map cannot be read: write a struct, or lists"
    if types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind):
        return _TIMES
    bytes_kinds = (
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
    )
    if any(is_kind(kind) for is_kind in bytes_kinds):
        return f"bytes are no text: {_AS_TEXT}"
    if types.is_interval(kind) or types.is_union(kind):
        return _AS_TEXT
    return None


def _features_of(schema: Any) -> Mapping[str, Any]:
    """What `datasets` wrote of the columns, of whatever version; empty where it is not readable."""
    text = cast("Mapping[bytes, bytes]", schema.metadata or {}).get(_FEATURES)
    if text is None:
        return {}
    try:
        features: Any = json.loads(text)["info"]["features"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return cast("Mapping[str, Any]", features) if isinstance(features, dict) else {}


def _reader_of(kind: Any, feature: Any) -> Read | None:
    """What turns a value of a type into the one that is meant; None where it is that already."""
    import numpy as np
    from pyarrow import types

    if _is_picture(kind, feature):
        return _as_picture
    if types.is_dictionary(kind):
        kind = kind.value_type
    names = _label_names(feature)
    if names is not None and types.is_integer(kind):
        return lambda number: names.get(number)
    if types.is_float16(kind):
        return lambda number: None if number is None else float(str(np.float16(number)))
    if types.is_float32(kind):
        # The shortest decimal that is this number in its own type.
        return lambda number: None if number is None else float(str(np.float32(number)))
    if types.is_struct(kind):
        return _struct_reader(kind, feature)
    if not _is_list(kind):
        return None
    read = _reader_of(kind.value_type, _inner_feature(feature))
    if read is None:
        return None
    return lambda values: None if values is None else [read(value) for value in values]


def _inner_feature(feature: Any) -> Any:
    """What is said of the values of a list."""
    if isinstance(feature, dict):
        return cast("dict[str, Any]", feature).get("feature")
    if isinstance(feature, list) and feature:
        return cast("list[Any]", feature)[0]
    return feature


def _label_names(feature: Any) -> Mapping[int, str] | None:
    """The names of a ClassLabel by their numbers; one without a name (-1: not labelled) is a
    missing value.
    """
    if not isinstance(feature, dict):
        return None
    labels = cast("dict[str, Any]", feature)
    names = labels.get("names")
    if labels.get("_type") != "ClassLabel" or not isinstance(names, list) or not names:
        return None
    listed = cast("list[Any]", names)
    if not all(isinstance(name, str) for name in listed):
        return None
    return dict(enumerate(cast("list[str]", listed)))


def _struct_reader(struct: Any, feature: Any) -> Read | None:
    """Of a struct, or of a schema: its fields."""
    readers: dict[str, Read] = {}
    for field in struct:
        read = _reader_of(field.type, _field_feature(feature, field.name))
        if read is not None:
            readers[field.name] = read
    if not readers:
        return None

    def read_fields(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        changed = dict(cast("Mapping[str, Any]", value))
        for name, read in readers.items():
            if name in changed:
                changed[name] = read(changed[name])
        return changed

    return read_fields


def _field_feature(feature: Any, name: str) -> Any:
    """The feature of a field. A Sequence of fields is stored as a field of sequences."""
    if not isinstance(feature, dict):
        return None
    fields = cast("dict[str, Any]", feature)
    inner = fields.get("feature")
    if fields.get("_type") in ("Sequence", "List") and isinstance(inner, dict):
        return {"feature": cast("dict[str, Any]", inner).get(name)}
    return fields.get(name)
