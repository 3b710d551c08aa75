"""Records that are read from what any version of the program may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from reasondistill.errors import DataError


class LenientRecord(BaseModel):
    """Frozen. Keys that it does not name are passed over, and null is as good as absent: folders
    outlive versions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str) -> Self:
        """The record of these stored values. Raises DataError for a value of another kind; `where`
        says where they stand.
        """
        known = {name: value for name, value in values.items() if value is not None}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            message = error.errors()[0]["msg"]
            raise DataError(f"{where}.{key}: {message}") from error

    def to_dict(self) -> dict[str, Any]:
        """As it is stored: what was given, in the order of the fields."""
        return self.model_dump(exclude_unset=True)

    def joined(self, other: Self) -> Self:
        """This one with all that the other was given; of both, the other's stands."""
        given = {name: getattr(other, name) for name in other.model_fields_set}
        return self.model_copy(update=given)
