"""Records that can be read from files of any version of the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from reasondistill.errors import DataError


class LenientRecord(BaseModel):
    """A frozen record. Unknown keys are ignored, and null counts as absent, because folders outlive
    versions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @classmethod
    def read(cls, values: object, where: str) -> Self:
        """The record of these stored values. Raises DataError, which names `where`, for a value
        of the wrong type, also in the place of all of them.
        """
        if not isinstance(values, Mapping):
            kind = type(values).__name__
            raise DataError(f"{where}: a {kind} in the place of named values")
        stored = cast("Mapping[str, Any]", values)
        known = {name: value for name, value in stored.items() if value is not None}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            message = error.errors()[0]["msg"]
            raise DataError(f"{where}.{key}: {message}") from error

    def to_dict(self) -> dict[str, Any]:
        """The record as it is stored: the fields that were set, in the order of the class."""
        return self.model_dump(exclude_unset=True)

    def joined(self, other: Self) -> Self:
        """This record with the fields set in the other, which override its own."""
        given = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=given)
