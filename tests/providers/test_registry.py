"""Which model is asked, and what a caller hears who asks for another."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from mediagen.core.errors import UnknownModel
from mediagen.net.settings import FetchSettings
from mediagen.providers.base import Making
from mediagen.providers.registry import Providers, open_providers
from mediagen.providers.settings import ProviderSettings


@pytest.fixture
async def providers() -> AsyncIterator[Providers]:
    models = tuple(f"painter-{number}=gpt-image-1" for number in range(8))
    settings = {"mine": ProviderSettings.model_validate({"type": "openai", "models": models})}
    async with open_providers(settings, FetchSettings()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("model", "making", "said"),
    [
        ("paintr-3", Making.IMAGE, "there is no model 'paintr-3'; did you mean 'painter-3'?; there are painter-0, "),
        ("dall-e-9", Making.VIDEO, "there is no model 'dall-e-9'; there are builtin-clip (GET"),
        ("painter-1", Making.VIDEO, "the model 'painter-1' makes no videos; there are builtin-clip (GET"),
        ("x" * 9000, Making.IMAGE, f"there is no model '{'x' * 100}'; there are painter-0, "),
    ],
)
async def test_an_unknown_model_is_answered_with_those_that_there_are(
    providers: Providers, model: str, making: Making, said: str
) -> None:
    with pytest.raises(UnknownModel, match=re.escape(said)) as refused:
        providers.offer(model, making)

    assert refused.value.context["param"] == "model"
    assert "GET /v1/models lists all" in refused.value.detail
    assert "[providers.NAME]" in refused.value.detail
    assert len(refused.value.detail) < 400


async def test_no_model_at_all_is_told_with_the_way_to_add_one() -> None:
    settings = {"builtin": ProviderSettings(type="builtin", enabled=False)}
    async with open_providers(settings, FetchSettings()) as providers:
        with pytest.raises(UnknownModel, match=re.escape("no configured model makes images; a [providers.NAME] table")):
            providers.offer(None, Making.IMAGE)
