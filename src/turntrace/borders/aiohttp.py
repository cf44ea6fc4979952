"""aiohttp: a trace configuration; a redirect is another request to somebody else."""

from typing import Any
from urllib.parse import urljoin

import aiohttp

from turntrace.borders import Carrying


def trace_config(tt: Carrying) -> aiohttp.TraceConfig:
    """See `Borders.aiohttp`."""

    async def begin(session: Any, context: Any, params: aiohttp.TraceRequestStartParams) -> None:
        tt.inject(params.headers, url=str(params.url))

    async def redirect(session: Any, context: Any, params: aiohttp.TraceRequestRedirectParams) -> None:
        place = params.response.headers.get("Location") or params.response.headers.get("URI") or ""
        tt.inject(params.headers, url=urljoin(str(params.url), place))

    config = aiohttp.TraceConfig()
    config.on_request_start.append(begin)
    config.on_request_redirect.append(redirect)
    return config
