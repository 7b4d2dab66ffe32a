"""Routes, each declared once.

A handler is a method with ``@route(…)`` above it. The declaration says everything that the outside may know: method,
path, models of query, body and answer, the status and the errors; the dispatcher below validates by it, and the API
document is made from it. The handler gets validated input and gives a value.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache
from http import HTTPStatus
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from mediagen.core.errors import InvalidRequest, MediagenError
from mediagen.core.keys import Caller, Scope
from mediagen.core.text import refuse_invalid
from mediagen.web.http.body import BodyLimits, not_yet, read_json, refuse_encoded
from mediagen.web.http.forwarded import FORWARDED, network_of
from mediagen.web.http.json_output import as_json
from mediagen.web.http.path_aliases import OtherSpellings
from mediagen.web.http.problems import OPENAI_PREFIXES

QueryT = TypeVar("QueryT", bound=BaseModel)
BodyT = TypeVar("BodyT", bound=BaseModel)
OtherT = TypeVar("OtherT", bound=BaseModel)
SelfT = TypeVar("SelfT")

_DECLARATION: Final = "__declaration__"


def dotted(location: tuple[str | int, ...]) -> str:
    """The place of a field, levels joined by dots."""
    return ".".join(map(str, location))


class Empty(BaseModel):
    """No query, or no body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[QueryT, BodyT]):
    """One request, validated, and who makes it."""

    request: web.Request
    query: QueryT
    body: BodyT
    caller: Caller
    base: str
    """Scheme, host and port by which this caller reaches us, without a final slash: where absolute URLs begin."""
    network: str
    """The caller's network, as limits count callers (``http.forwarded.network_of``)."""

    def with_body(self, body: OtherT) -> Call[QueryT, OtherT]:
        """The same call with another body."""
        return Call(self.request, self.query, body, self.caller, self.base, self.network)

    @property
    def id(self) -> str:
        """The ``{id}`` of the path."""
        return self.request.match_info["id"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler gives when a model alone does not say it all."""

    value: BaseModel | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """Another answer that a call can give, beside its usual one and its errors; ``model`` None: it has no body."""

    status: int
    says: str
    model: type[BaseModel] | None = None
    gives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Declaration:
    """A route as the outside knows it.

    ``answer`` None: the handler writes a body of ``media_type`` by itself. ``streamed``: it also reads the body by
    itself. ``fails``: the errors that belong to this call beyond those that any call can meet. ``also``: answers of
    another status. ``takes`` and ``gives``: request and answer headers that clients rely on.
    ``events``: what the data of a stream of events can be. ``file_field``: the body is a file, raw or in this field of
    a form. ``older``: a path by which earlier clients know the call. ``public``: no key is needed, ever. ``needs``: the
    scope that the caller's key must have; None: ``read`` to look, ``write`` for all else. ``ticket``: one in the query
    does as well, used up at once or kept for the stream that it opened. ``slashes``: the ``{id}`` may hold some,
    escaped or not. ``name_fields``: how errors write the place of a field in the body. ``handler``: name of the method.
    """

    method: str
    path: str
    summary: str
    query: type[BaseModel] = Empty
    body: type[BaseModel] = Empty
    answer: type[BaseModel] | None = None
    status: int = HTTPStatus.OK
    fails: tuple[type[MediagenError], ...] = ()
    media_type: str = "application/json"
    streamed: bool = False
    body_optional: bool = False
    also: tuple[Reply, ...] = ()
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    events: tuple[type[BaseModel], ...] = ()
    file_field: str | None = None
    older: str | None = None
    public: bool = False
    needs: Scope | None = None
    ticket: Literal["once", "stream"] | None = None
    slashes: bool = False
    name_fields: Callable[[tuple[str | int, ...]], str] = dotted
    handler: str = ""

    @property
    def scope(self) -> Scope | None:
        """What a caller must be allowed; None: nothing."""
        if self.public:
            return None
        return self.needs or (Scope.READ if set(self.methods) <= {"GET", "HEAD"} else Scope.WRITE)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the route answers; one that gives a model on GET answers HEAD as well."""
        if self.method == "GET" and self.answer is not None:
            return ("GET", "HEAD")
        return tuple(self.method.split("|"))


Handler: TypeAlias = Callable[[Call[Any, Any]], Awaitable[BaseModel | Answer | web.StreamResponse]]
Result: TypeAlias = BaseModel | Answer | web.StreamResponse
ResultT = TypeVar("ResultT", bound=Result)
Method: TypeAlias = Callable[[SelfT, Call[QueryT, BodyT]], Awaitable[ResultT]]


def route(
    method: str,
    path: str,
    summary: str,
    *,
    query: type[QueryT] = Empty,  # type: ignore[assignment]
    body: type[BodyT] = Empty,  # type: ignore[assignment]
    answer: type[BaseModel] | None = None,
    status: int = HTTPStatus.OK,
    fails: tuple[type[MediagenError], ...] = (),
    media_type: str = "application/json",
    streamed: bool = False,
    body_optional: bool = False,
    also: tuple[Reply, ...] = (),
    takes: tuple[str, ...] = (),
    gives: tuple[str, ...] = (),
    events: tuple[type[BaseModel], ...] = (),
    file_field: str | None = None,
    older: str | None = None,
    public: bool = False,
    needs: Scope | None = None,
    ticket: Literal["once", "stream"] | None = None,
    slashes: bool = False,
    name_fields: Callable[[tuple[str | int, ...]], str] = dotted,
) -> Callable[[Method[SelfT, QueryT, BodyT, ResultT]], Method[SelfT, QueryT, BodyT, ResultT]]:
    """Declare the method below as the handler of ``method path``."""
    declaration = Declaration(
        method,
        path,
        summary,
        query=query,
        body=body,
        answer=answer,
        status=status,
        fails=fails,
        media_type=media_type,
        streamed=streamed,
        body_optional=body_optional,
        also=also,
        takes=takes,
        gives=gives,
        events=events,
        file_field=file_field,
        older=older,
        public=public,
        needs=needs,
        ticket=ticket,
        slashes=slashes,
        name_fields=name_fields,
    )

    def declare(handler: Method[SelfT, QueryT, BodyT, ResultT]) -> Method[SelfT, QueryT, BodyT, ResultT]:
        setattr(handler, _DECLARATION, replace(declaration, handler=handler.__name__))
        return handler

    return declare


def declarations(owner: type) -> Iterator[tuple[str, Declaration]]:
    """What the handlers of a class declare, by a name for each route, in the order of the source."""
    for name, member in vars(owner).items():
        declaration = getattr(member, _DECLARATION, None)
        if isinstance(declaration, Declaration):
            yield name, declaration
            if declaration.older is not None:
                summary = f"{declaration.summary} (older path)"
                yield f"{name}_as_before", replace(declaration, path=declaration.older, summary=summary)


class Admission(Protocol):
    """Knows who may call what. ``required``: nobody comes in without a key."""

    @property
    def required(self) -> bool: ...

    def admit(self, request: web.Request, declaration: Declaration) -> Caller:
        """Who calls. Raises Unauthorized, Forbidden, RateLimited."""

    def holding(self, request: web.Request, caller: Caller) -> AbstractContextManager[None]:
        """Inside, the request is cut off when its caller's key ends."""


def register(
    app: web.Application, owners: Iterable[object], *, base_path: str, limits: BodyLimits, admission: Admission
) -> None:
    """Add the routes of all handlers of ``owners`` to ``app``. GET routes answer HEAD as well.

    Those in the shapes of OpenAI are there without ``/v1`` too, for clients whose base URL lacks it. Other spellings
    of a path are found where there is none as it is (``paths``).
    """
    for owner in owners:
        for _, declaration in declarations(type(owner)):
            handler = cast(Handler, getattr(owner, declaration.handler))
            serve = _dispatcher(handler, declaration, limits, admission)
            paths = [declaration.path]
            if declaration.path.startswith(OPENAI_PREFIXES):
                paths.append(declaration.path.removeprefix("/v1"))
            for path in paths:
                if declaration.slashes:
                    path = path.replace("{id}", "{id:.+}")
                for method in declaration.methods:
                    app.router.add_route(method, base_path + path, serve, expect_handler=not_yet)
    app.router.register_resource(OtherSpellings(app, base_path=base_path))


def _dispatcher(
    handler: Handler, declaration: Declaration, limits: BodyLimits, admission: Admission
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        caller = admission.admit(request, declaration)  # before anything of the body is read or asked for
        with admission.holding(request, caller):
            return await answered(request, caller)

    async def answered(request: web.Request, caller: Caller) -> web.StreamResponse:
        refuse_encoded(request)
        query = _parse_query(request, declaration.query)
        body: BaseModel = Empty()
        if not declaration.streamed:
            document = await read_json(request, limits) if request.can_read_body else None
            if document is not None or not (declaration.body_optional or declaration.body is Empty):
                body = validate(declaration.body, {} if document is None else document, declaration.name_fields)
            elif declaration.body_optional:
                body = declaration.body()
        forwarded = request.app[FORWARDED]
        network = network_of(forwarded.client(request))
        result = await handler(Call(request, query, body, caller, forwarded.base(request), network))
        if isinstance(result, web.StreamResponse):
            return result
        if isinstance(result, BaseModel):
            result = Answer(result)
        return json_response(result, declaration.status)

    return serve


def json_response(answer: Answer, status: int = HTTPStatus.OK) -> web.Response:
    """The answer as JSON; 204 when there is no value."""
    if answer.value is None:
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=answer.headers)
    return web.Response(
        status=answer.status or status,
        body=as_json(answer.value),
        content_type="application/json",
        charset="utf-8",
        headers=answer.headers,
    )


def _parse_query(request: web.Request, model: type[QueryT]) -> QueryT:
    """What the call knows of the query, and is not empty.

    The rest is left out, as OpenAI does: clients add ``api-version``, browsers something against caches.
    """
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in model.model_fields or value == "":
            continue
        if name in values:
            raise InvalidRequest(f"{name[:60]} is given twice", field=name[:60])
        values[name] = value
    return validate(model, values)


def validate(
    model: type[BodyT], document: object, name_fields: Callable[[tuple[str | int, ...]], str] = dotted
) -> BodyT:
    """``document`` as a ``model``. ``name_fields`` writes the place of a field.

    Raises:
        InvalidRequest: with every fault in ``errors`` of the context, the first one in the text.
    """
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    refuse_invalid(document)
    for name in _numbers_of(model):
        if isinstance(document.get(name), bool):  # which Python takes for 0 and 1
            text = "Input should be a number, not true or false"
            raise InvalidRequest(f"{name}: {text}", field=name, errors=[{"field": name, "message": text}])
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        faults = [
            {
                "field": name_fields(error["loc"])[:200] or None,
                "message": error["msg"].removeprefix("Value error, "),
            }
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        ][:20]
    first = faults[0]
    where = f"{first['field']}: " if first["field"] else ""
    raise InvalidRequest(f"{where}{first['message']}", field=first["field"], errors=faults)


@cache
def _numbers_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Names under which fields of ``model`` come that take numbers and no booleans."""
    found = []
    for name, declared in model.model_fields.items():
        kinds = set(_kinds_in(declared.annotation))
        if kinds & {int, float} and not kinds & {bool, Any}:
            found.append(declared.alias or name)
    return tuple(found)


def _kinds_in(annotation: object) -> Iterator[object]:
    """The types of which ``annotation`` is one, without those of what they contain."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds_in(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _kinds_in(member)
    else:
        yield annotation
