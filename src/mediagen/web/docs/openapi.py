"""The API as a document (OpenAPI 3.1), made from the declarations that validate requests.

So it cannot say anything else than what the server does: a parameter, a body, an answer or an error is in it because
a ``@route`` names it. Schemas are pydantic's, whose dialect (JSON Schema 2020-12) is that of OpenAPI 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mediagen import __version__
from mediagen.core.errors import (
    IdempotencyMismatch,
    MediagenError,
    Overloaded,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from mediagen.web.api.routing import Declaration, Empty, declarations
from mediagen.web.http.problems import ANY_CALL, OPENAI_PREFIXES, OpenAIProblem, Problem, status_of
from mediagen.web.middleware.rate_limit import RATE_HEADERS

Json: TypeAlias = dict[str, Any]
Mode: TypeAlias = Literal["validation", "serialization"]
Schemas: TypeAlias = Mapping[tuple[type[BaseModel], Mode], Json]

_WITHOUT_BODY: Final = frozenset({HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT})
HEADERS: Final[Mapping[str, str]] = {
    "Accept-Ranges": "`bytes`: range requests are supported",
    "Content-Disposition": "the file name, and whether to show or save the file (RFC 6266)",
    "Content-Range": "position of these bytes in the file (RFC 9110)",
    "ETag": "identifies these bytes",
    "Idempotency-Key": "client-chosen key; repeating the request returns the original task or file",
    "If-Match": "fail with 412 unless the file has this ETag",
    "If-Modified-Since": "return 304 unless the file is newer",
    "If-None-Match": "return 304 if the file still has this ETag",
    "If-Range": "return the range only if the file has this ETag or date, else the whole file",
    "If-Unmodified-Since": "fail with 412 if the file is newer",
    "Last-Event-ID": "the last sequence number you received; later events are sent again",
    "Prefer": "`respond-async`: return 202 with the task instead of waiting for the result (RFC 7240)",
    "openai-poll-after-ms": "milliseconds to wait before the next poll",
    "Location": "URL of the created or requested resource",
    "Range": "the bytes to return, e.g. `bytes=0-1023` (RFC 9110)",
    "Retry-After": "seconds to wait before the next request",
    "X-Filename": "file name of a raw body: percent-encoded UTF-8, or an extended value (RFC 8187)",
    "WWW-Authenticate": "`Bearer`, and what is wrong with the key (RFC 6750)",
    "x-mediagen-task": "id of the task behind this response, error responses included",
    "x-ratelimit-limit-requests": "requests per minute allowed by the tighter of the limits that apply",
    "x-ratelimit-remaining-requests": "requests left before the limit is reached",
    "x-ratelimit-reset-requests": "time until the full limit is available again, e.g. `12s`",
    "x-request-id": "id of this request, as in the server's log",
}
"""What is said of each header that a declaration can name."""

_OPERATING: Final = "operating"
"""The tag of what is not for users but for those who run the server; it comes last."""
_OUTSIDE: Final = {"files": "files", "media": "files"}
"""Parts that have paths outside of ``/v1`` as well."""

_COMPONENTS: Final = "#/components/"
_PARAMETER_PATTERNS: Final = {
    "/v1/tasks/": "^task_[0-9a-f]{32}$",
    "/v1/videos/": "^video_[0-9a-f]{32}$",
    **dict.fromkeys(("/v1/files/", "/files/", "/media/"), "^file_[0-9a-f]{32}$"),
}


def document(owners: Iterable[type], *, base_path: str = "", keys_required: bool = True) -> Json:
    """The document of all routes of ``owners``; paths are below ``base_path``.

    ``keys_required``: whether this server lets nobody in without a key.
    """
    routes = [(name, declared) for owner in owners for name, declared in declarations(owner)]
    schemas, definitions = _schemas(declared for _, declared in routes)
    paths: dict[str, Json] = {}
    responses: dict[str, Json] = {}
    for name, declared in routes:
        for method in declared.methods:
            operation = _operation(name, declared, method, schemas, definitions, responses)
            operation["security"] = _security(declared, keys_required=keys_required)
            paths.setdefault(declared.path, {})[method.lower()] = operation
    queries = {_name_of(schemas[declared.query, "validation"]) for _, declared in routes}
    tags = sorted(dict.fromkeys(_tag(declared.path) for _, declared in routes), key=_OPERATING.__eq__)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mediagen",
            "version": __version__,
            "description": "Self-hosted media generation server: images, videos and any URL, in your own store.",
        },
        "servers": [{"url": base_path or "/"}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            # parameters are written out where they are used; as objects they exist only for us
            "schemas": {name: schema for name, schema in definitions.items() if name not in queries},
            "responses": dict(sorted(responses.items())),
            "headers": {
                name: {"description": text, "schema": {"type": "integer" if name == "Retry-After" else "string"}}
                for name, text in HEADERS.items()
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an API key of this server (`mg_…`), if `auth.required` demands one",
                },
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "for browsers' WebSocket and EventSource, which cannot send headers",
                },
            },
        },
    }


def _schemas(routes: Iterable[Declaration]) -> tuple[Schemas, dict[str, Json]]:
    """References by model, and the definitions that they point to."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {}
    for declared in routes:
        answers = [declared.answer, *declared.events, *(reply.model for reply in declared.also)]
        problem = OpenAIProblem if declared.path.startswith(OPENAI_PREFIXES) else Problem
        wanted |= dict.fromkeys((model, "validation") for model in (declared.query, declared.body))
        wanted |= dict.fromkeys((model, "serialization") for model in (*answers, problem) if model is not None)
    references: Any
    references, made = models_json_schema(list(wanted), ref_template=f"{_COMPONENTS}schemas/{{model}}")
    return references, dict(made.get("$defs", {}))


def _operation(
    name: str,
    declared: Declaration,
    method: str,
    schemas: Schemas,
    definitions: Mapping[str, Json],
    responses: dict[str, Json],
) -> Json:
    head = method == "HEAD"
    operation: Json = {
        "operationId": f"head_{name}" if head else name,
        "summary": f"{declared.summary} (headers only)" if head else declared.summary,
        "tags": [_tag(declared.path)],
    }
    parameters = list(_parameters(declared, definitions[_name_of(schemas[declared.query, "validation"])]))
    if parameters:
        operation["parameters"] = parameters
    if declared.body is not Empty:
        content: Json = {"application/json": {"schema": schemas[declared.body, "validation"]}}
        operation["requestBody"] = {"content": content, "required": not declared.body_optional}
    elif declared.file_field is not None:
        content = {"multipart/form-data": {"schema": _form(declared.file_field)}, "application/octet-stream": {}}
        operation["requestBody"] = {"content": content, "required": True}
    operation["responses"] = dict(_answers(declared, schemas, responses, head=head))
    return operation


def _security(declared: Declaration, *, keys_required: bool) -> list[Json]:
    """The ways in, one of which is enough; no way: nothing is needed."""
    if declared.scope is None:
        return []
    ways: list[Json] = [{"key": [declared.scope]}, *([{"ticket": []}] if declared.ticket else ())]
    return ways if keys_required else [{}, *ways]


def _form(field: str) -> Json:
    """A form with one file, whose bytes are what they are (OpenAPI 3.1, "Considerations for File Uploads")."""
    return {
        "type": "object",
        "required": [field],
        "properties": {field: {"contentMediaType": "application/octet-stream"}},
    }


def _parameters(declared: Declaration, query: Json) -> Iterator[Json]:
    if "{id}" in declared.path:
        pattern = next((text for prefix, text in _PARAMETER_PATTERNS.items() if declared.path.startswith(prefix)), ".")
        yield {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
    for name, schema in query.get("properties", {}).items():
        schema = _never_null(schema)
        described = {"description": schema.pop("description")} if "description" in schema else {}
        required = name in query.get("required", ())
        yield {"name": name, "in": "query", "required": required, **described, "schema": schema}
    for name in declared.takes:
        yield {"name": name, "in": "header", "description": HEADERS[name], "schema": {"type": "string"}}


def _never_null(schema: Json) -> Json:
    """The schema of a query parameter: it can be left out, but there is no way to write null."""
    schema = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["anyOf"]
        schema = {**options[0], **schema}
    return schema


def _answers(
    declared: Declaration, schemas: Schemas, responses: dict[str, Json], *, head: bool
) -> Iterator[tuple[str, Json]]:
    usual = _answer(HTTPStatus(declared.status).phrase, declared.gives)
    if not head and declared.status not in _WITHOUT_BODY:
        schema: Json = {} if declared.answer is None else schemas[declared.answer, "serialization"]
        if declared.media_type.startswith("text/"):
            schema = _event(declared.events, schemas) if declared.events else {"type": "string"}
        usual["content"] = {declared.media_type: {"schema": schema}}
    yield str(int(declared.status)), usual
    for reply in declared.also:
        other = _answer(reply.says, reply.gives)
        if not head and reply.model is not None:
            other["content"] = {"application/json": {"schema": schemas[reply.model, "serialization"]}}
        elif not head and reply.status == HTTPStatus.PARTIAL_CONTENT:
            other["content"] = {declared.media_type: {"schema": {}}}
        yield str(int(reply.status)), other
    taken = {int(declared.status), *(int(reply.status) for reply in declared.also)}
    by_status: dict[int, list[type[MediagenError]]] = {}
    for error in _errors(declared):
        by_status.setdefault(int(status_of(error)), []).append(error)
    for status, errors in sorted(by_status.items()):
        if status not in taken:
            yield str(status), _problem(declared, status, errors, schemas, responses, head=head)


def _errors(declared: Declaration) -> tuple[type[MediagenError], ...]:
    keyed = (IdempotencyMismatch,) if "Idempotency-Key" in declared.takes else ()
    return ANY_CALL + declared.fails + keyed + (() if declared.public else (Unauthorized,))


def _event(models: Iterable[type[BaseModel]], schemas: Schemas) -> Json:
    """One event of a stream (HTML standard, section 9.2); its data is JSON in a string."""
    data = {"anyOf": [schemas[model, "serialization"] for model in models]}
    return {
        "type": "object",
        "description": "one event of the stream",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "event": {"type": "string"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        },
    }


def _answer(description: str, gives: Iterable[str]) -> Json:
    names = dict.fromkeys(("x-request-id", *gives))
    return {"description": description, "headers": {name: {"$ref": f"{_COMPONENTS}headers/{name}"} for name in names}}


def _problem(
    declared: Declaration,
    status: int,
    errors: Iterable[type[MediagenError]],
    schemas: Schemas,
    responses: dict[str, Json],
    *,
    head: bool,
) -> Json:
    """A reference to the component of errors of this status with these codes; made when it is the first one."""
    errors = tuple(errors)
    codes = sorted({error.code for error in errors})
    openai = declared.path.startswith(OPENAI_PREFIXES)
    name = ".".join((f"{'OpenAI' if openai else ''}{status}", *codes, *(("head",) if head else ())))
    if name not in responses:
        waits = any(issubclass(error, Overloaded | ProviderError | Unavailable) for error in errors)
        gives = (
            *(("Retry-After",) if waits else ()),
            *(RATE_HEADERS if RateLimited in errors else ()),
            *(("WWW-Authenticate",) if Unauthorized in errors else ()),
        )
        made = _answer(f"{HTTPStatus(status).phrase}: {', '.join(codes)}", gives)
        if not head:
            reference = schemas[OpenAIProblem if openai else Problem, "serialization"]
            said: Json = {"properties": {"code": {"enum": codes}}}
            schema = {"allOf": [reference, {"properties": {"error": said}} if openai else said]}
            made["content"] = {"application/json" if openai else "application/problem+json": {"schema": schema}}
        responses[name] = made
    return {"$ref": f"{_COMPONENTS}responses/{name}"}


def _name_of(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _tag(path: str) -> str:
    """The part of the API that a path belongs to."""
    first, _, rest = path.strip("/").partition("/")
    if first != "v1":
        return _OUTSIDE.get(first, _OPERATING)
    return "feed" if rest == "ws" else rest.partition("/")[0]
