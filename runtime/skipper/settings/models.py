"""``[models.NAME]``: what lets a version of a model serve, how that begins, and what is kept."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from skipper import selectors
from skipper.errors import DefinitionError
from skipper.settings.annotations import FunctionName


def _check_model(name: str) -> str:
    try:
        selectors.check_name(name)
    except DefinitionError as error:
        raise ValueError(str(error)) from None
    return name


ModelName = Annotated[str, AfterValidator(_check_model)]
_Bound = Annotated[float, Field(allow_inf_nan=False)]
_Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GateRule(_Table):
    """What one metric must be, by itself or as a multiple of what it is in production."""

    min: _Bound | None = None
    max: _Bound | None = None
    min_ratio_to_production: _Bound | None = None
    max_ratio_to_production: _Bound | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.bounds:
            raise ValueError(f"name a bound: {', '.join(type(self).model_fields)}")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """Those that are given, by name."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: bound for name, bound in given.items() if bound is not None}


def _kind_of(gate: object) -> str:
    return "function" if isinstance(gate, str) else "rules"


GateRules: TypeAlias = dict[str, GateRule]
# Told apart beforehand, so that a mistake is one of rules or of a name, and not of both.
_Gate = Annotated[
    Annotated[GateRules, Tag("rules")] | Annotated[FunctionName, Tag("function")],
    Discriminator(_kind_of),
]


class CanarySettings(_Table):
    """How a version begins that is to serve."""

    percent: _Percent = Field(
        0.0, description="part of the keys of calls that it answers at first; 0: all at once"
    )


class ModelSettings(_Table):
    """One model."""

    gate: _Gate = Field(
        {}, description="what its metrics must be to serve, or a function that says so"
    )
    promote: Literal["auto", "manual"] = Field(
        "auto", description="whether a version that its gate lets pass serves by itself"
    )
    canary: CanarySettings = CanarySettings()
    keep: int = Field(1, ge=0, le=10, description="earlier versions that stay loaded")
    keep_versions: int | None = Field(None, ge=1, description="the newest versions, which are kept")
    keep_days: float | None = Field(None, gt=0, description="younger ones are kept, too")
