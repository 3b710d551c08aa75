"""Types that several sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Scalar = str | int | float | bool
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
