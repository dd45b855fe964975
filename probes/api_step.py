"""One step of the kind `api`: an HTTP request with references in it, what its answer must be, and what is taken from it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote_plus, urljoin

from pydantic import ConfigDict, Field, JsonValue

from stormwatch.probes.authorization import Login
from stormwatch.probes.capture import Capture, Taker, takers
from stormwatch.probes.client import Client
from stormwatch.probes.expectation import Expectations, ExpectHttp
from stormwatch.probes.json_value import ExpectJson
from stormwatch.probes.options import STRICT, Secret
from stormwatch.probes.request import CREDENTIALS, Headers, Request, check_headers, make_request
from stormwatch.probes.template import Document, Template, Values
from stormwatch.probes.units import Seconds
from stormwatch.probes.url import Url


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Ask again while the answer is not as expected, as for work that the target does later."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    attempts: Annotated[int, Field(ge=2, le=100)] = 10
    """How often to ask in all."""
    after: Seconds = 1.0
    """How long to wait between the end of one attempt and the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiStep:
    """One request. `{{ name }}` in its URL, headers and body is a variable, or a value that an earlier step captured."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[str, Field(min_length=1, max_length=60)]
    """Names the step in messages, in evidence, and in the label `step`."""
    url: str = ""
    """Where to, relative to the target, which counts as a directory; or a whole URL. Values are percent-encoded."""
    method: Annotated[str, Field(pattern=r"^[A-Za-z]*$")] = ""
    """The request's method; POST where there is something to send and GET where there is not, when empty."""
    headers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, "str | tuple[str, ...]"], repr=False)
    """Request headers, in the place of the shared ones of the same name. They are never kept as evidence."""
    body: str | None = field(default=None, repr=False)
    """The body as it is. Its type is not guessed: give a Content-Type header."""
    json: JsonValue = field(default=None, repr=False)
    """The body as JSON. A string that is nothing but one reference becomes the value with its type."""
    form: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The body as a form, `application/x-www-form-urlencoded`."""
    basic_auth: Login | None = None
    """Log in with name and password, in the place of the shared login."""
    bearer: Secret = field(default="", repr=False)
    """Log in with a token, in the place of the shared login: `{{ token }}` for one that was captured."""
    expect: ExpectHttp = field(default_factory=ExpectHttp)
    """What the answer must be. In `json`, `equals` and `contains` may refer to values too."""
    capture: Mapping[str, Capture] = field(default_factory=dict[str, Capture])
    """Values to take from the answer, by the name that later steps refer to them by."""
    soft: bool = False
    """When it fails, the steps behind it are taken all the same; the run is down in the end."""
    retry: Retry | None = None
    """Ask again while the answer is not as expected."""
    within: Seconds | None = None
    """How long the step may take, all its attempts included; what is left of the run when it is not given."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step, compiled: everything that does not change between runs."""

    options: ApiStep
    base: str
    """The target as a directory, which the URL counts from."""
    method: str
    url: Template
    headers: tuple[tuple[str, tuple[Template, ...]], ...] = field(repr=False)
    home_only: frozenset[str]
    """Names of shared headers that hold a login: a step that leads elsewhere does not have them."""
    body: "Body" = field(repr=False)
    bearer: Template | None = field(repr=False)
    expectations: Expectations | None
    """None when they refer to values: then they are made in each run."""
    wanted: tuple[tuple[Document | None, Document | None], ...]
    """What `equals` and `contains` of each expectation on JSON are made of."""
    takers: tuple[Taker, ...]

    @property
    def name(self) -> str:
        """Of the step."""
        return self.options.name

    @property
    def needs_body(self) -> bool:
        """Whether the whole body has to be kept."""
        return self.expectations is None or self.expectations.needs_body or any(each.needs_body for each in self.takers)

    def request(self, client: Client, values: Values) -> Request:
        """The request of one run. Raises Missing, and ValueError for what the values make impossible."""
        url = Url.parse(urljoin(self.base, self.url.fill(values)))
        at_home = url.origin == client.home.origin
        headers: dict[str, str | tuple[str, ...]] = {
            name: tuple(each.fill(values) for each in templates)
            for name, templates in self.headers
            if at_home or name not in self.home_only
        }
        body = self.body.fill(values)
        if self.bearer is not None:
            login = [f"Authorization: Bearer {self.bearer.fill(values)}"]
            check_headers({"Authorization": login[0]})
        elif self.options.basic_auth is not None:
            login = [f"Authorization: {self.options.basic_auth.basic()}"]
        else:
            return client.request(url, method=self.method, headers=headers, body=body)
        return make_request(url, method=self.method, headers=headers, body=body, login=login)

    def expected(self, values: Values) -> Expectations:
        """What the answer of one run must be. Raises Missing, and ValueError for what the values make impossible."""
        if self.expectations is not None:
            return self.expectations
        expect = self.options.expect
        filled = tuple(
            replace(
                one,
                equals=one.equals if equals is None else equals.value(values),
                contains=one.contains if contains is None else contains.value(values),
            )
            for one, (equals, contains) in zip(expect.json, self.wanted, strict=True)
        )
        return Expectations(replace(expect, json=filled), answers_only=True)


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent, in one of the ways to write it."""

    text: Template | None = None
    document: Document | None = None
    form: tuple[tuple[str, Template], ...] = ()

    @property
    def content_type(self) -> str:
        """As it is said when the headers do not."""
        return "application/json" if self.document else "application/x-www-form-urlencoded" if self.form else ""

    @property
    def is_there(self) -> bool:
        """Whether anything is sent."""
        return self.text is not None or self.document is not None or bool(self.form)

    def fill(self, values: Values) -> bytes | None:
        """The bytes of one run. Raises Missing."""
        if self.document is not None:
            return self.document.fill(values)
        if self.form:
            pairs = ((name, each.fill(values).encode("utf-8", "surrogatepass")) for name, each in self.form)
            return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs).encode()
        return None if self.text is None else self.text.fill(values).encode("utf-8", "surrogatepass")


def compile_step(step: ApiStep, where: str, *, base: str, headers: Headers, known: Iterable[str]) -> Step:
    """From what people write; `headers` are the shared ones, `known` what may be referred to.

    Raises ValueError, beginning with `where`, for what cannot work.
    """
    known = frozenset(known)
    body = _body(step, where, known)
    url = Template.parse(step.url, f"{where}.url", known, way="url")
    if url.is_constant:
        try:
            Url.parse(urljoin(base, url.fill({})))
        except ValueError as error:
            raise ValueError(f"{where}.url: {error}") from None
    if step.basic_auth is not None and step.bearer:
        raise ValueError(f"{where}: give basic_auth or bearer, not both: a request has one Authorization header")
    wanted = tuple(_wanted(one, f"{where}.expect.json[{number}]", known) for number, one in enumerate(step.expect.json))
    expectations = Expectations(step.expect, f"{where}.expect", answers_only=True)
    return Step(
        options=step,
        base=base,
        method=(step.method or ("POST" if body.is_there else "GET")).upper(),
        url=url,
        headers=tuple(_headers(step, where, headers, body.content_type, known)),
        home_only=frozenset(name for name in headers if name.lower() in CREDENTIALS and name not in step.headers),
        body=body,
        bearer=Template.parse(step.bearer, f"{where}.bearer", known) if step.bearer else None,
        expectations=None if any(each for pair in wanted for each in pair) else expectations,
        wanted=wanted,
        takers=takers(step.capture, f"{where}.capture"),
    )


def _body(step: ApiStep, where: str, known: frozenset[str]) -> Body:
    if sum((step.body is not None, step.json is not None, bool(step.form))) > 1:
        raise ValueError(f"{where}: give one of body, json and form: a request has one body")
    return Body(
        text=None if step.body is None else Template.parse(step.body, f"{where}.body", known),
        document=None if step.json is None else Document.parse(step.json, f"{where}.json", known),
        form=tuple((name, Template.parse(each, f"{where}.form.{name}", known)) for name, each in step.form.items()),
    )


def _headers(
    step: ApiStep, where: str, shared: Headers, content_type: str, known: frozenset[str]
) -> Iterator[tuple[str, tuple[Template, ...]]]:
    check_headers(step.headers, f"{where}.headers")
    own = {name.lower() for name in step.headers}
    found = {name: each for name, each in shared.items() if name.lower() not in own} | dict(step.headers)
    if content_type and "content-type" not in {name.lower() for name in found}:
        found["Content-Type"] = content_type
    for name, values in found.items():
        each = (values,) if isinstance(values, str) else values
        yield name, tuple(Template.parse(value, f"{where}.headers.{name}", known) for value in each)


def _wanted(expect: ExpectJson, where: str, known: frozenset[str]) -> tuple[Document | None, Document | None]:
    return _document(expect.equals, f"{where}.equals", known), _document(expect.contains, f"{where}.contains", known)


def _document(value: Any, where: str, known: frozenset[str]) -> Document | None:
    document = Document.parse(value, where, known)
    return document if document.has_holes else None


BUILT_IN: Final = ("now", "probe", "random", "run_id", "timestamp")
"""What can be referred to in every run: its start as ISO 8601 in UTC, the probe's name, 16 hexadecimal digits, the run's
trace id, and its start as a Unix time in whole seconds. Each is the same in the whole run."""
