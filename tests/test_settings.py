"""Settings: where they come from, what is refused, and that the example is complete."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from mediagen.providers.settings import ProviderSettings
from mediagen.settings import ConfigurationError, Settings, load, redacted

EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def problems(tmp_path: Path, toml: str = "", **environ: str) -> tuple[str, ...]:
    """What is wrong with this configuration."""
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, toml, None, **environ)
    return refused.value.problems


def read(tmp_path: Path, toml: str = "", overrides: dict[str, Any] | None = None, **environ: str) -> Settings:
    file = tmp_path / "mediagen.toml"
    file.write_text(toml)
    return load(file, environ, overrides)[0]


def test_without_anything_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    settings, used = load(None, {})

    assert (settings, used) == (Settings(), None)
    assert (settings.server.host, settings.server.port, settings.data_dir) == ("127.0.0.1", 8080, Path("data"))


def test_the_file_of_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mediagen.toml").write_text("[server]\nport = 1\n")
    monkeypatch.chdir(tmp_path)

    settings, used = load(None, {})

    assert (settings.server.port, used) == (1, Path("mediagen.toml"))


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    toml = '[server]\nhost = "a"\nport = 1\nbase_path = "/x"\n'

    settings = read(
        tmp_path, toml, {"server": {"port": 3}}, MEDIAGEN_SERVER__PORT="2", MEDIAGEN_SERVER__HOST="b", OTHER="ignored"
    )

    assert (settings.server.port, settings.server.host, settings.server.base_path) == (3, "b", "/x")


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("MEDIAGEN_DATA_DIR", "/srv", "data_dir", Path("/srv")),
        ("MEDIAGEN_AUTH__REQUIRED", "false", "auth.required", False),
        ("MEDIAGEN_AUTH__REQUIRED", "auto", "auth.required", "auto"),
        ("MEDIAGEN_SERVER__ALLOWED_HOSTS", "a.example, b.example", "server.allowed_hosts", ("a.example", "b.example")),
        ("MEDIAGEN_SERVER__ALLOWED_HOSTS", '["a.example"]', "server.allowed_hosts", ("a.example",)),
        ("MEDIAGEN_FETCH__PORTS", "80,8080", "fetch.ports", (80, 8080)),
        ("MEDIAGEN_TASKS__LANES__INGEST", "9", "tasks.lanes.ingest", 9),
        ("MEDIAGEN_TASKS__LANES", '{"ingest": 7}', "tasks.lanes.ingest", 7),
        ("MEDIAGEN_STORAGE__S3", '{"bucket": "b"}', "storage.s3.bucket", "b"),
    ],
)
def test_values_of_the_environment(tmp_path: Path, name: str, text: str, path: str, value: object) -> None:
    found: Any = read(tmp_path, "", None, **{name: text})
    for step in path.split("."):
        found = found[step] if isinstance(found, dict) else getattr(found, step)

    assert found == value


def test_unknown_keys_are_named_with_their_place_and_the_likely_one(tmp_path: Path) -> None:
    file = tmp_path / "mediagen.toml"

    assert problems(tmp_path, "[server]\nprot = 1\n") == (
        f"{file}: there is no setting server.prot; did you mean server.port?",
    )
    assert problems(tmp_path, "[sotrage]\nx = 1\n") == (f"{file}: there is no setting sotrage; did you mean storage?",)
    assert problems(tmp_path, "zzz = 1\n") == (f"{file}: there is no setting zzz",)
    assert problems(tmp_path, MEDIAGEN_SERVER__PROT="1") == (
        "MEDIAGEN_SERVER__PROT: there is no such setting; did you mean MEDIAGEN_SERVER__PORT?",
    )
    assert problems(tmp_path, MEDIAGEN_SERVER__PORT__X="1") == ("MEDIAGEN_SERVER__PORT__X: there is no such setting",)


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "a = 1\n[server]\nb = 2\n", MEDIAGEN_C="3")) == 3


@pytest.mark.parametrize(
    ("toml", "environ", "place"),
    [
        ("[server]\nport = 70000\n", {}, "server.port: "),
        ("[server]\nport = 'x'\n", {}, "server.port: "),
        ("", {"MEDIAGEN_SERVER__PORT": "x"}, "MEDIAGEN_SERVER__PORT: "),
        ("", {"MEDIAGEN_SERVER__PUBLIC_URL": "ftp://x"}, "MEDIAGEN_SERVER__PUBLIC_URL: must begin with"),
        ("[server]\npublic_url = 'https://a/b'\n", {}, "server.public_url: must be scheme and host alone"),
        ("[server]\nbase_path = '/a/../b'\n", {}, "server.base_path: must be a plain path"),
        ("[server]\ncors_origins = ['https://a/']\n", {}, "server.cors_origins.0: 'https://a/' is not an origin"),
        ("[server]\ntrusted_proxies = ['x']\n", {}, "server.trusted_proxies.0: "),
        ("[tasks.lanes]\ningest = 0\n", {}, "tasks.lanes.ingest: "),
        ("", {"MEDIAGEN_STORAGE__S3": "{"}, "MEDIAGEN_STORAGE__S3: "),
        ("[webhooks]\nsecret = 'whsec_c2hvcnQ='\n", {}, "webhooks.secret: must be whsec_ and 24 to 64 bytes"),
        ("[webhooks]\nsecret = 'hunter2'\n", {}, "webhooks.secret: must be whsec_ and "),
        ("[webhooks]\nschedule_seconds = []\n", {}, "webhooks.schedule_seconds: "),
        ("", {"MEDIAGEN_WEBHOOKS__SCHEDULE_SECONDS": "0,-1"}, "MEDIAGEN_WEBHOOKS__SCHEDULE_SECONDS.1: "),
        ("[server\n", {}, "is not valid TOML"),
    ],
)
def test_a_wrong_value_is_said_with_its_place(tmp_path: Path, toml: str, environ: dict[str, str], place: str) -> None:
    (problem,) = problems(tmp_path, toml, **environ)

    assert place in problem
    assert problem.startswith(("MEDIAGEN_", str(tmp_path)))


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load(tmp_path / "x.toml", {})


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    by_toml = read(tmp_path, f'[storage.s3]\nsecret_access_key_file = "{secret}"\n')
    by_environ = read(
        tmp_path, '[storage.s3]\nsecret_access_key = "old"\n', MEDIAGEN_STORAGE__S3__SECRET_ACCESS_KEY_FILE=str(secret)
    )

    assert by_toml.storage.s3.secret_access_key.get_secret_value() == "s3cret"
    assert by_environ.storage.s3.secret_access_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(by_toml)
    assert "s3cret" not in str(redacted(by_toml))


def test_a_secret_given_twice_or_in_a_lost_file_is_refused(tmp_path: Path) -> None:
    (twice,) = problems(tmp_path, '[storage.s3]\nsecret_access_key = "a"\nsecret_access_key_file = "b"\n')
    (lost,) = problems(tmp_path, MEDIAGEN_STORAGE__S3__SECRET_ACCESS_KEY_FILE=str(tmp_path / "x"))
    (plain,) = problems(tmp_path, '[storage.s3]\nbucket_file = "b"\n')

    assert "only one of the two" in twice
    assert lost.startswith("MEDIAGEN_STORAGE__S3__SECRET_ACCESS_KEY_FILE: the file cannot be read")
    assert "there is no setting storage.s3.bucket_file" in plain


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.port = 1  # type: ignore[misc]


def leaves(model: BaseModel, path: str = "") -> Iterator[tuple[str, object, str]]:
    """Path, value and description of every setting."""
    for name, field in type(model).model_fields.items():
        value, here = getattr(model, name), f"{path}{name}"
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{here}.")
        elif isinstance(value, dict):
            yield from ((f"{here}.{key}", item, field.description or "") for key, item in value.items())
        else:
            yield here, value, field.description or ""


def flat(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    return (
        [str(item) if not isinstance(item, int | str) else item for item in value]
        if isinstance(value, tuple)
        else value
    )


def test_the_example_has_every_setting_with_its_default_and_what_it_means() -> None:
    text = EXAMPLE.read_text()
    written = dict(flat(tomllib.loads(text)))
    known = {path: plain(value) for path, value, _ in leaves(Settings())}
    comments = " ".join(re.findall(r"^# (.*)$", text, re.MULTILINE)).lower()

    assert written == known
    assert [path for path, _, meaning in leaves(Settings()) if not meaning or meaning.lower() not in comments] == []


def test_the_example_tells_of_every_setting_of_a_provider() -> None:
    comments = " ".join(re.findall(r"^# (.*)$", EXAMPLE.read_text(), re.MULTILINE)).lower()

    for name, field in ProviderSettings.model_fields.items():
        assert f"{name} = " in comments
        assert field.description is not None
        assert field.description.lower() in comments


def test_providers_are_named_freely(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")

    settings = read(
        tmp_path,
        '[providers.mine]\ntype = "openai"\nbase_url = "http://127.0.0.1:1/v1/"\nmodels = ["a", "b=x/y"]\n',
        MEDIAGEN_PROVIDERS__MINE__API_KEY_FILE=str(secret),
        MEDIAGEN_PROVIDERS__BUILTIN__TYPE="builtin",
        MEDIAGEN_PROVIDERS__BUILTIN__ENABLED="false",
    )

    mine = settings.providers["mine"]
    assert (mine.base_url, mine.named_models) == ("http://127.0.0.1:1/v1", {"a": "a", "b": "x/y"})
    assert mine.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in str(redacted(settings))
    assert not settings.providers["builtin"].enabled


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[providers.a]\nbase_url = 'http://x'\n", "providers.a.type: Field required"),
        ("[providers.a]\ntype = 'fal'\nbase_url = 'ftp://x'\n", "must be an http(s) URL"),
        ("[providers.a]\ntype = 'openai'\nmodels = ['=x']\n", "not a model"),
        ("[providers.a]\ntype = 'builtin'\nmodels = ['x']\n", "the built-in provider has no base_url"),
        ("[providers.A]\ntype = 'openai'\n", "cannot be the name of a provider"),
        ("[providers.builtin]\ntype = 'openai'\n", "the name of the built-in provider"),
        ("[providers.a]\ntype = 'openai'\nkey = 'x'\n", "there is no setting providers.a.key"),
    ],
)
def test_a_wrong_provider_is_said(tmp_path: Path, toml: str, words: str) -> None:
    (problem,) = problems(tmp_path, toml)

    assert words in problem


def test_the_example_loads() -> None:
    assert load(EXAMPLE, {})[0] == Settings()
