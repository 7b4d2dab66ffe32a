"""From one model of options to another: what was validated once is not validated again."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)


def derive(model: type[ModelT], options: BaseModel, /, **changes: Any) -> ModelT:
    """A ``model`` with the values of ``options`` for the fields that both have, then ``changes``. Validates nothing."""
    names = type(options).model_fields.keys() & model.model_fields.keys()
    return model.model_construct(**{**{name: getattr(options, name) for name in names}, **changes})
