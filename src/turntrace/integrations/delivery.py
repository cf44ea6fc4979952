"""Delivers reports: webhooks by a plain HTTP POST, everything else (mail, chat) by apprise, where it is installed."""

import http.client
import json
import logging
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from turntrace.errors import IntegrationMissing, TurntraceError
from turntrace.jobs.report import Report

log = logging.getLogger("turntrace.report")

SECONDS: Final = 20.0
_WEB: Final = ("http://", "https://")
_DOCUMENTATION: Final = frozenset({"service_url", "setup_url", "app_url", "image_url_mask", "image_url_logo"})


class Delivery:
    """Sends to several addresses.

    Args:
        addresses: `https://…` webhooks, which are sent JSON with `title`, `html` and `csv`; or apprise URLs such as
            `mailto://user:password@example.com`.
        may_call: whether a host may be called at all; of an apprise URL every host that its service may call.
    """

    def __init__(self, addresses: Sequence[str], may_call: Callable[[str], bool] = lambda host: True) -> None:
        self._may_call = may_call
        self._web = tuple(address for address in addresses if address.startswith(_WEB))
        self._other = tuple(address for address in addresses if not address.startswith(_WEB))

    def __call__(self, report: Report) -> None:
        """Send to all; the others are sent to also when one fails.

        Raises:
            IntegrationMissing: an address needs apprise.
            TurntraceError: one could not be reached; no address stands in the message.
        """
        failed = sum(not self._post(address, report) for address in self._web)
        if self._other:
            failed += not _notify(self._other, report, self._may_call)
        if failed:
            raise TurntraceError(f"{failed} addresses of the report could not be reached")

    def _post(self, address: str, report: Report) -> bool:
        try:
            if self._may_call(urlsplit(address).hostname or ""):
                return _post(address, report)
            log.warning("the report could not be delivered: a host of report_to is not among outgoing_hosts")
        except (OSError, ValueError, http.client.HTTPException) as error:
            log.warning("the report could not be delivered: %s", type(error).__name__)
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Nowhere: what was checked is the address of the settings."""


def _post(address: str, report: Report) -> bool:
    body = json.dumps({"title": report.title, "html": report.html, "csv": report.csv}).encode()
    request = urllib.request.Request(  # noqa: S310 (only http and https come here)
        address, data=body, headers={"Content-Type": "application/json", "User-Agent": "turntrace"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    with opener.open(request, timeout=SECONDS) as answer:
        return bool(200 <= answer.status < 300)


def _notify(addresses: Sequence[str], report: Report, may_call: Callable[[str], bool]) -> bool:
    try:
        import apprise
    except ImportError:
        raise IntegrationMissing("mail and chat need apprise: pip install 'turntrace[notify]'") from None
    asset = apprise.AppriseAsset(http_redirects=False)  # what was checked is the address of the settings
    sender = apprise.Apprise(asset=asset)
    known = [_added(sender, apprise.Apprise.instantiate(address, asset=asset), may_call) for address in addresses]
    with tempfile.TemporaryDirectory(prefix="turntrace-") as folder:
        path = Path(folder) / "spending.csv"
        path.write_text(report.csv, encoding="utf-8")
        sent = sender.notify(
            title=report.title, body=report.html, body_format=apprise.NotifyFormat.HTML, attach=str(path)
        )
    return all(known) and bool(sent)


def _added(sender: Any, service: Any, may_call: Callable[[str], bool]) -> bool:
    """Whether a service of apprise is known and may be called."""
    if service is None:
        return False
    if getattr(service, "redirects", False):
        log.warning("the report could not be delivered: an address of report_to asks to be led on elsewhere")
        return False
    hosts = called_hosts(service) or {""}  # none that anybody knows: allowed where every host is
    if not all(may_call(host) for host in hosts):
        log.warning("the report could not be delivered: a host of report_to is not among outgoing_hosts")
        return False
    return bool(sender.add(service))


def called_hosts(service: Any) -> set[str]:
    """Every host that a service of apprise may call: those that its class names, and the one in the address, unless
    that stands for a token. For mail it is the server, which need not be the domain."""
    mail = getattr(service, "smtp_host", None)
    if mail:
        return {str(mail)}
    kind = type(service)
    named = (getattr(kind, name, None) for name in dir(kind) if name not in _DOCUMENTATION)
    found = {urlsplit(url).hostname or "" for url in named if isinstance(url, str) and url.startswith(_WEB)}
    if any("{host}" in template for template in kind.templates):
        found.add(service.host or "")
    return found - {""}
