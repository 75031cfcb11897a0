"""What every configuration here is made of, and how a wrong one is explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer

from attnzoo.checks import did_you_mean
from attnzoo.errors import OptionError

__all__ = ["Config", "faults", "parse"]


class Config(BaseModel):
    """A frozen set of options that refuses keys it does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            owner, found = type(self).__name__, error.errors()
            raise OptionError(
                "\n".join(_explain(one, type(self), owner) for one in found)
            ) from None

    # Pydantic need not come this way when it reads files or fields: `faults` explains those.
    vars()["__init__"].__pydantic_base_init__ = True

    added: ClassVar[tuple[str, ...]] = ()
    """Fields that are written only where they are set: what runs were told apart by before there
    were such fields stays as it was."""

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, handler: Any) -> dict[str, Any]:
        written = handler(self)
        for name in self.added:
            if getattr(self, name) == type(self).model_fields[name].get_default(
                call_default_factory=True
            ):
                written.pop(name, None)
        return written


Parsed = TypeVar("Parsed", bound=Config)


def parse(kind: type[Parsed], value: Parsed | Mapping[str, Any], owner: str) -> Parsed:
    """`value` as a `kind`.

    Raises:
        OptionError: naming every fault, and for a wrong key the closest one.
    """
    if isinstance(value, kind):
        return value
    found = faults(kind, value, owner)
    if found:
        raise OptionError("\n".join(found))
    return kind.model_validate(value)


def faults(kind: type[Config], value: Any, owner: str) -> list[str]:
    """What is wrong with `value` as a `kind`, a line a fault: where, what was given."""
    if not isinstance(value, Mapping):
        return [f"{owner}: {value!r} must be a mapping with keys {', '.join(kind.model_fields)}."]
    try:
        kind.model_validate(value)
    except ValidationError as error:
        return [_explain(fault, kind, owner) for fault in error.errors()]
    return []


def _explain(fault: Any, kind: type[Config], owner: str) -> str:
    where = ".".join((owner, *(str(part) for part in fault["loc"])))
    if fault["type"] == "extra_forbidden":
        keys = list(kind.model_fields)
        hint = did_you_mean(str(fault["loc"][-1]), keys)
        return f"{where}: there is no such key.{hint} There are: {', '.join(keys)}."
    if fault["type"] == "missing":
        return f"{where}: this key is required."
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = "" if isinstance(fault["input"], Mapping) else f" (given: {fault['input']!r})"
    return f"{where}: {message}{given}."
