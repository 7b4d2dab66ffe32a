"""The one place where configuration is read.

Each room owns a frozen model of its settings; ``Settings`` joins them. Values come, first found wins, from the command
line, the environment (``MEDIAGEN_``, ``__`` between levels) and a TOML file. Whatever is not understood is an error
that names its place. Every secret can also be given as the path of a file, by the same name with ``_file`` added.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mediagen.compose.settings import ComposeSettings
from mediagen.events.webhooks.settings import WebhooksSettings
from mediagen.net.settings import FetchSettings
from mediagen.pipelines.settings import LimitsSettings
from mediagen.providers.settings import BUILTIN, ProviderSettings
from mediagen.storage.settings import StorageSettings
from mediagen.tasks.settings import TasksSettings
from mediagen.web.settings import AuthSettings, ServerSettings

PREFIX: Final = "MEDIAGEN_"
DEFAULT_FILE: Final = Path("mediagen.toml")
CLIENT_VARIABLES: Final = frozenset({"MEDIAGEN_SERVER", "MEDIAGEN_CONFIG", "MEDIAGEN_KEY"})
"""Variables of the command line that are no settings."""

_MAX_SECRET_BYTES: Final = 64 * 1024


class ConfigurationError(Exception):
    """The configuration cannot be used; ``problems`` has one line for each reason, with its place."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LogSettings(BaseModel):
    """What is logged, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level to log: debug, info, warning, error"
    )
    format: Literal["auto", "console", "json"] = Field("auto", description='"auto": JSON unless on a terminal')


class Settings(BaseSettings):
    """All settings. Nobody below ``app`` sees this, only the model of their room."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    data_dir: Path = Field(Path("data"), description="directory of the database, local media and temporary files")
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitsSettings = LimitsSettings()
    storage: StorageSettings = StorageSettings()
    fetch: FetchSettings = FetchSettings()
    tasks: TasksSettings = TasksSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    compose: ComposeSettings = ComposeSettings()
    providers: dict[str, ProviderSettings] = Field(
        {}, description="who makes pictures and films, by a name of your choice"
    )
    log: LogSettings = LogSettings()

    @field_validator("providers")
    @classmethod
    def _names_of_providers(cls, providers: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        for name, provider in providers.items():
            if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name):
                raise ValueError(f"{name!r} cannot be the name of a provider: lower-case letters, digits, _ . - alone")
            if name == BUILTIN and provider.type != BUILTIN:
                raise ValueError("'builtin' is the name of the built-in provider")
        return providers

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources that ``load`` hands over as one keyword each, most important first."""
        given = cast(InitSettingsSource, init_settings).init_kwargs
        if set(given) == {"_sources"}:
            return tuple(InitSettingsSource(settings_cls, dict(source)) for source in given["_sources"])
        return (init_settings,)


def load(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> tuple[Settings, Path | None]:
    """The settings, and the file that was read.

    Args:
        config: TOML file; None takes ``mediagen.toml`` of the working directory if there is one.
        environ: the process environment.
        overrides: nested values of the command line.

    Raises:
        ConfigurationError
    """
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    problems: list[str] = []
    origins: dict[tuple[str, ...], str] = {}
    from_file = _read_toml(config) if config is not None else {}
    from_environ = _read_environment(environ, problems, origins)
    for path in _paths(from_file):
        origins.setdefault(path, f"{config}: {'.'.join(path)}")
    problems += _unknown(from_file, Settings, (), str(config))
    _read_secret_files(from_file, Settings, (), problems, origins)
    _read_secret_files(from_environ, Settings, (), problems, origins)
    if problems:
        raise ConfigurationError(*problems)
    for path in _paths(overrides or {}):
        origins[path] = f"option --{path[-1].replace('_', '-')}"
    try:
        return Settings(_sources=(overrides or {}, from_environ, from_file)), config  # type: ignore[call-arg]
    except ValidationError as exc:
        raise ConfigurationError(*_explain(exc, origins)) from None


def redacted(settings: Settings) -> dict[str, Any]:
    """The effective settings, ready for JSON, every given secret replaced by stars."""
    return settings.model_dump(mode="json")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc}") from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path}: is not valid TOML: {exc}") from None


def _read_environment(
    environ: Mapping[str, str], problems: list[str], origins: dict[tuple[str, ...], str]
) -> dict[str, Any]:
    """Nested values of all ``MEDIAGEN_`` variables; lists as JSON or separated by commas, tables as JSON."""
    values: dict[str, Any] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in CLIENT_VARIABLES:
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        nested: Any = environ[name]
        for level in reversed(path):
            nested = {level: nested}
        unknown = _unknown(nested, Settings, (), name, as_variable=True)
        if unknown:
            problems += unknown
            continue
        origins[path] = name
        try:
            value = _decoded(environ[name], _kind_at(Settings, path))
        except ValueError as exc:
            problems.append(f"{name}: {exc}")
            continue
        place = values
        for level in path[:-1]:
            place = place.setdefault(level, {})
            if not isinstance(place, dict):
                problems.append(f"{name}: {level} is already given as a whole")
                break
        else:
            place[path[-1]] = value
    return values


def _decoded(text: str, kind: object) -> object:
    origin = typing.get_origin(kind)
    is_list = any(typing.get_origin(part) in {list, tuple, frozenset} for part in (kind, *_members(kind)))
    if is_list and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    if is_list or origin is dict or _model_in(kind) is not None:
        return json.loads(text)
    return text


def _members(kind: object) -> tuple[object, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in {typing.Union, types.UnionType} else ()


def _model_in(kind: object) -> type[BaseModel] | None:
    """The model that ``kind`` is, or has as a member of a union."""
    for part in (kind, *_members(kind)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _child(kind: object, name: str) -> object | None:
    """What may stand under ``name`` in a value of type ``kind``; None: nothing."""
    model = _model_in(kind)
    if model is not None:
        field = model.model_fields.get(name)
        if field is not None:
            return field.annotation
        secret = model.model_fields.get(name.removesuffix("_file")) if name.endswith("_file") else None
        return Path if secret is not None and _is_secret(secret.annotation) else None
    if typing.get_origin(kind) in {dict, Mapping}:
        return typing.cast(object, typing.get_args(kind)[1])
    return None


def _kind_at(kind: object, path: tuple[str, ...]) -> object:
    for name in path:
        kind = _child(kind, name)
    return kind


def _is_secret(kind: object) -> bool:
    return any(part is SecretStr for part in (kind, *_members(kind)))


def _unknown(
    data: Mapping[str, Any], kind: object, path: tuple[str, ...], place: str, *, as_variable: bool = False
) -> Iterator[str] | list[str]:
    found: list[str] = []
    for name, value in data.items():
        child = _child(kind, name)
        here = (*path, name)
        if child is None:
            model = _model_in(kind)
            near = difflib.get_close_matches(name, list(model.model_fields) if model else (), n=1, cutoff=0.6)
            spelled = (*path, *near)
            best = f"{PREFIX}{'__'.join(spelled).upper()}" if as_variable else ".".join(spelled)
            hint = f"; did you mean {best}?" if near else ""
            found.append(
                f"{place}: there is no such setting{hint}"
                if as_variable
                else f"{place}: there is no setting {'.'.join(here)}{hint}"
            )
        elif isinstance(value, dict):
            found += _unknown(value, child, here, place, as_variable=as_variable)
    return found


def _read_secret_files(
    data: dict[str, Any], kind: object, path: tuple[str, ...], problems: list[str], origins: dict[tuple[str, ...], str]
) -> None:
    """Replace every ``<secret>_file`` in ``data`` by the secret that the file holds, final line ends left out."""
    for name in list(data):
        here = (*path, name)
        if isinstance(data[name], dict):
            _read_secret_files(data[name], _child(kind, name), here, problems, origins)
            continue
        model = _model_in(kind)
        if model is None or name in model.model_fields or _child(kind, name) is None:
            continue
        base, source = name.removesuffix("_file"), origins.get(here, ".".join(here))
        file = data.pop(name)
        if base in data:
            problems.append(f"{source}: {base} is given as well; only one of the two may be")
            continue
        try:
            with Path(str(file)).open("rb") as handle:
                data[base] = handle.read(_MAX_SECRET_BYTES).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            problems.append(f"{source}: the file cannot be read: {exc}")
        origins.setdefault((*path, base), source)


def _paths(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _paths(value, (*path, name))
        else:
            yield (*path, name)


def _explain(exc: ValidationError, origins: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """A line for each value at fault; what each branch of a union says of it is joined."""
    messages: dict[tuple[str, ...], list[str]] = {}
    for error in exc.errors(include_url=False, include_context=False, include_input=False):
        message = error["msg"].removeprefix("Value error, ")
        messages.setdefault(_value_path(error["loc"]), []).append(message)
    for path, said in messages.items():
        known = next((end for end in range(len(path), 0, -1) if path[:end] in origins), 0)
        place = ".".join((*([origins[path[:known]]] if known else []), *path[known:]))
        yield f"{place}: {', or: '.join(said)}"


def _value_path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The part of a location that leads to a value: after it pydantic names the branch of a union."""
    kind: object = Settings
    for depth, part in enumerate(location):
        if isinstance(part, int):
            continue  # an item of a list; nothing is nested below one
        kind = _child(kind, part)
        if kind is None:
            return tuple(map(str, location[:depth]))
    return tuple(map(str, location))
