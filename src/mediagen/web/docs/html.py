"""The API document as a page for people: plain HTML made on the server, so it needs no script and no other host.

One section for each operation, whose id is the ``operationId``, and one for each object (``schema-Name``): links to
them stay good. Everything that comes out of the document is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]

STYLE: Final = resources.files("mediagen.web.docs").joinpath("page.css").read_text("utf-8")
_BOUNDS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minLength": "length from {}",
    "maxLength": "length to {}",
    "minItems": "items from {}",
    "maxItems": "items to {}",
    "pattern": "like {}",
    "default": "default {}",
}
_CODE: Final = re.compile(r"`+([^`]+)`+")
"""What descriptions mark as code, after it was escaped."""


def page(document: Json) -> str:
    """The whole page."""
    info, server = document["info"], document["servers"][0]["url"].rstrip("/")
    tags = [tag["name"] for tag in document["tags"]]
    operations = {tag: list(_operations(document, tag)) for tag in tags}
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body>",
            f"<header><h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])}</p>",
            '<p>JSON in, JSON out. Times are RFC 3339 in UTC; what is not known is null. Errors are <a href="'
            '#schema-Problem">problems</a> with a stable <code>code</code>; every answer has '
            "<code>x-request-id</code>. "
            f'The same for programs: <a href="{escape(server)}/openapi.json">openapi.json</a> (OpenAPI '
            f"{escape(document['openapi'])}).</p></header>",
            '<nav aria-label="Operations">',
            *(_menu(tag, operations[tag]) for tag in tags),
            '<p><a href="#objects">Objects</a></p></nav><main>',
            *(_chapter(tag, operations[tag], document, server) for tag in tags),
            '<h2 id="objects">Objects</h2>',
            *(_object(name, schema) for name, schema in document["components"]["schemas"].items()),
            "</main></body></html>",
        )
    )


def missing(path: str, base_path: str) -> str:
    """The page for a path that does not exist."""
    base = escape(base_path)
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>Not found - mediagen</title><style>{STYLE}</style></head><body>",
            f"<header><h1>There is no page here</h1><p><code>{escape(path)}</code> is not a path of this server.</p>",
            f'<p>mediagen is used through its API: see <a href="{base}/docs">its reference</a>, the same for programs '
            f'in <a href="{base}/openapi.json">openapi.json</a>.</p>',
            "</header></body></html>",
        )
    )


def _operations(document: Json, tag: str) -> Iterator[tuple[str, str, Json, Json | None]]:
    """Path, method, operation and, beside a GET, its HEAD."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "head" and tag in operation["tags"]:
                yield path, method.upper(), operation, item.get("head") if method == "get" else None


def _menu(tag: str, operations: Iterable[tuple[str, str, Json, Json | None]]) -> str:
    lines = (
        f'<li><a href="#{escape(operation["operationId"])}"><b class="{method.lower()}">{method}</b> '
        f"<code>{escape(path)}</code></a> <span>{escape(operation['summary'])}</span></li>"
        for path, method, operation, _ in operations
    )
    return f'<p><a href="#tag-{escape(tag)}">{escape(tag)}</a></p><ul>{"".join(lines)}</ul>'


def _chapter(tag: str, operations: Iterable[tuple[str, str, Json, Json | None]], document: Json, server: str) -> str:
    sections = (_section(*operation, document, server) for operation in operations)
    return f'<h2 id="tag-{escape(tag)}">{escape(tag)}</h2>{"".join(sections)}'


def _section(path: str, method: str, operation: Json, head: Json | None, document: Json, server: str) -> str:
    name = escape(operation["operationId"])
    parts = [
        f'<section id="{name}"><h3><a href="#{name}"><b class="{method.lower()}">{method}</b> '
        f"<code>{escape(server + path)}</code></a></h3><p>{escape(operation['summary'])}."
    ]
    if head is not None:
        parts.append(f' <span id="{escape(head["operationId"])}"><code>HEAD</code> returns the headers only.</span>')
    parts.append("</p>")
    if "parameters" in operation:
        parts.append(_table("Parameters", map(_parameter, operation["parameters"])))
    if "requestBody" in operation:
        parts += _body(operation["requestBody"], document)
    parts.append(_table("Answers", _answers(operation["responses"], document)))
    parts.append("</section>")
    return "".join(parts)


def _body(body: Json, document: Json) -> Iterator[str]:
    content = body["content"]
    yield f"<h4>Body{'' if body['required'] else ' (optional)'}</h4>"
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        model = document["components"]["schemas"][_name(schema)]
        yield f"<p>JSON: {_type(schema)}{_about(model)}</p>"
        yield _fields(model)
    else:
        (field,) = content["multipart/form-data"]["schema"]["required"]
        form = "<code>multipart/form-data</code>"
        yield f"<p>The file itself, or {form} with it in the field <code>{escape(field)}</code>.</p>"


def _parameter(parameter: Json) -> tuple[str, str]:
    place = parameter["in"] + (", required" if parameter["required"] else "") if "required" in parameter else "header"
    about = f"<i>{escape(place)}</i> {_type(parameter['schema'])}{_bounds(parameter['schema'])}"
    return f"<code>{escape(parameter['name'])}</code>", about + _about(parameter)


def _answers(replies: Json, document: Json) -> Iterator[tuple[str, str]]:
    """A row for each answer; errors, which are many and all of one shape, share the last row."""
    errors: list[str] = []
    for status, reply in replies.items():
        shown = f'<b class="s{status[0]}">{status}</b>'
        if "$ref" in reply:
            text = document["components"]["responses"][_name(reply)]["description"].partition(": ")[2]
            codes = " ".join(f"<code>{escape(code)}</code>" for code in text.split(", "))
            errors.append(f"<span class=e>{shown} {codes}</span>")
        else:
            yield shown, _answer(reply)
    if errors:
        yield "errors", " ".join(errors)


def _answer(reply: Json) -> str:
    kinds = ((kind, content["schema"]) for kind, content in reply.get("content", {}).items())
    given = "; ".join(f"{_type(schema)} <i>{escape(kind)}</i>" for kind, schema in kinds)
    headers = [f"<code>{escape(name)}</code>" for name in reply["headers"] if name != "x-request-id"]
    return f"{_prose(reply['description'])}. {given}" + (f" with {', '.join(headers)}" if headers else "")


def _object(name: str, schema: Json) -> str:
    about = f"<p>{_prose(schema['description'])}</p>" if "description" in schema else ""
    values = "" if "properties" in schema else f"<p>{_type(schema)}</p>"
    return (
        f'<section id="schema-{escape(name)}"><h3><a href="#schema-{escape(name)}">{escape(name)}</a></h3>'
        f"{about}{values}{_fields(schema)}</section>"
    )


def _fields(schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(name)}</code>",
            ("<i>required</i> " if name in required else "") + _type(field) + _bounds(field) + _about(field),
        )
        for name, field in schema.get("properties", {}).items()
    )
    return _table("", rows)


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th scope=row>{name}</th><td>{about}</td></tr>" for name, about in rows)
    return (f"<h4>{title}</h4>" if title else "") + (f"<table>{lines}</table>" if lines else "")


def _type(schema: Json) -> str:
    """What a value is, in a few words, with links to the objects that it names."""
    if "$ref" in schema:
        return f'<a href="#schema-{escape(_name(schema))}">{escape(_name(schema))}</a>'
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "contentSchema" in schema:
        return f"JSON: {_type(schema['contentSchema'])}"
    if "data" in schema.get("properties", {}) and "title" not in schema:
        return f"events: {_type(schema['properties']['data'])}"
    if "anyOf" in schema:
        return " or ".join(_type(option) + _bounds(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping) and schema["additionalProperties"]:
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(f"{schema.get('type', 'bytes')} {schema.get('format', '')}".strip())


def _bounds(schema: Json) -> str:
    said = [
        text.format(f"<code>{escape(str(schema[key]))}</code>")
        for key, text in _BOUNDS.items()
        if schema.get(key) is not None
    ]
    return f" <small>{', '.join(said)}</small>" if said else ""


def _about(schema: Json) -> str:
    if "description" not in schema:
        return ""
    return f"<br>{_prose(schema['description'])}"


def _prose(text: str) -> str:
    """Text for people, with its code marked as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _name(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
