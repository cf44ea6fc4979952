"""One request to a page: who looks, where we are mounted, and how the answer is rendered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from time import time_ns
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from turntrace.panel.address import Address, here, local_path
from turntrace.panel.assets import release
from turntrace.panel.context import PanelContext
from turntrace.panel.gate.role import Role, Viewer
from turntrace.panel.mood import Moods, moods_of
from turntrace.panel.standing import LEAST_PAIRS, shapes_of
from turntrace.panel.templating import environment
from turntrace.records import hostlink
from turntrace.records.hostlink import links_of
from turntrace.records.score import Score
from turntrace.storage.queries import evaluators

THEMES: Final = ("system", "light", "dark")
THEME_COOKIE: Final = "turntrace_theme"
STATE: Final = "turntrace.panel"


@dataclass(frozen=True, slots=True)
class MenuItem:
    """An entry of the menu: its page (path below the mount), label and icon."""

    page: str
    label: str
    icon: str
    is_admin: bool = False  # under "Manage"
    role: Role | None = None  # who may open it; none: everybody, or admins where it is under "Manage"

    def is_for(self, viewer: Viewer) -> bool:
        """Whether this person may open it."""
        if viewer.is_reviewer:
            return self.page == "queues"
        return viewer.may(self.role or (Role.ADMIN if self.is_admin else Role.VIEWER))


MENU: Final = (
    MenuItem("", "Overview", "overview"),
    MenuItem("traces", "Traces", "traces"),
    MenuItem("sessions", "Sessions", "sessions"),
    MenuItem("users", "Users", "users"),
    MenuItem("cost", "Cost", "cost"),
    MenuItem("budgets", "Budgets", "price"),
    MenuItem("queues", "Review", "check", role=Role.ANNOTATOR),
    MenuItem("quality", "Quality", "evaluator"),
    MenuItem("evaluators", "Evaluators", "guardrail"),
    MenuItem("system", "System", "system"),
    MenuItem("privacy", "Privacy", "guardrail", is_admin=True, role=Role.OPERATOR),
    MenuItem("audit", "Audit log", "lock", is_admin=True, role=Role.OPERATOR),
    MenuItem("admin/api-key/list", "API keys", "key", is_admin=True),
    MenuItem("admin/account/list", "People", "users", is_admin=True),
    MenuItem("admin/price/list", "Prices", "price", is_admin=True),
)


@dataclass(slots=True)
class Visit:
    """A person's request. `numbering` numbers redaction placeholders alike all over the page."""

    request: Request
    context: PanelContext
    viewer: Viewer
    address: Address
    form: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None
    numbering: dict[str, str] = field(default_factory=dict)
    _moods: Moods | None = None
    _labels: Mapping[tuple[str, str], int] | None = None

    @property
    def panel_title(self) -> str:
        """The panel's title, a setting."""
        return self.context.settings.panel_title

    @property
    def theme(self) -> str:
        """`system`, `light` or `dark`, kept in a cookie."""
        chosen = self.request.cookies.get(THEME_COOKIE, "system")
        return chosen if chosen in THEMES else "system"

    @property
    def may_read(self) -> bool:
        """Whether the person sees texts, not only numbers."""
        return self.viewer.reads

    @property
    def may_score(self) -> bool:
        """Whether the person may add scores, or answer the questions of a queue."""
        return self.viewer.is_reviewer or self.viewer.may(Role.ANNOTATOR)

    @property
    def may_evaluate(self) -> bool:
        """Whether the person may write evaluators."""
        return self.viewer.may(Role.OPERATOR)

    @property
    def may_queue(self) -> bool:
        """Whether the person may give turns to others to review."""
        return self.viewer.may(Role.OPERATOR)

    @property
    def may_erase(self) -> bool:
        """Whether the person may export and erase: what they do reaches beyond one tenant's share of the turns."""
        return self.viewer.may(Role.OPERATOR) and self.viewer.scope is None

    @property
    def menu(self) -> tuple[MenuItem, ...]:
        """The pages this person may open."""
        return tuple(item for item in MENU if item.is_for(self.viewer))

    @property
    def here(self) -> str:
        """Path and query of this page."""
        return here(self.request.scope)

    @property
    def now_us(self) -> int:
        """The time now, microseconds since the epoch."""
        return time_ns() // 1000

    @property
    def moods(self) -> Moods:
        """Which scores are bad ones, as the evaluators say; read when a page first asks."""
        if self._moods is None:
            with self.context.database.read() as c:
                self._moods = moods_of(shapes_of(evaluators.list_evaluators(c)))
        return self._moods

    def is_agreement_known(self, score: Score) -> bool:
        """Whether people judged enough of what an evaluator judged to say how far it agrees with them."""
        if self._labels is None:
            self._labels = self.context.labelled.counts(self.context.database, now_us=self.now_us)
        return self._labels.get((score.name, score.evaluator or ""), 0) >= LEAST_PAIRS

    def host_links(self, tags: Sequence[str] = (), **values: str | None) -> list[tuple[str, str]]:
        """Label and address of each page of the host's admin (setting `host_links`) about one of these values."""
        settings = self.context.settings
        # A pseudonym means nothing to the host.
        known = values if settings.identify == "plain" else {**values, "user": None}
        return links_of(tuple(map(hostlink.parse, settings.host_links)), known, tags)

    def asset(self, name: str) -> str:
        """Address of a static file."""
        return f"{self.address.root}/static/{release()}/{name}"

    def render(self, template: str, *, code: int = HTTPStatus.OK, **values: Any) -> Response:
        """A page. `section` (which menu entry is current) and `title` are among `values`."""
        defaults: dict[str, Any] = {"visit": self, "section": None, "title": "", "custom": {}}
        text = environment().get_template(template).render({**defaults, **values})
        return HTMLResponse(text, status_code=code)

    def back(self, default: str = "") -> Response:
        """After a form was handled: to the page it names in `next`, if that is one of ours."""
        target = local_path(self.form.get("next"), self.address.root) or self.address.to(default)
        return RedirectResponse(target, status_code=HTTPStatus.SEE_OTHER)

    def back_to(self, page: str, **params: str) -> Response:
        """After a form was handled: to this page."""
        return RedirectResponse(self.address.to(page, **params), status_code=HTTPStatus.SEE_OTHER)


def visit_of(request: Request) -> Visit:
    """The visit that the gate has let in."""
    visit = request.scope[STATE]
    assert isinstance(visit, Visit)
    return visit
