"""The page's server: routes to what `pages` shows, on loopback, without models.

    serve(Workspace(Path("models")), Door(new_token(), 8765))     # until Ctrl-C

A handler that reads files is a plain function, which runs in a thread; the loop never waits for a disk.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from demask.errors import DemaskError
from demask.reports.page import TEMPLATES as REPORT_TEMPLATES
from demask.storage import file_names
from demask.ui.folders import Workspace
from demask.ui.pages import Pages, as_command, as_yaml
from demask.ui.runs import SeenRun, look_at
from demask.ui.safety import REPORT_POLICY, Door, Guard

STATIC = Path(__file__).parent / "static"
# Files that are served, by name, each with its type.
_FILES = {
    "report.css": (REPORT_TEMPLATES / "report.css", "text/css"),
    "page.css": (STATIC / "page.css", "text/css"),
    "page.js": (STATIC / "page.js", "text/javascript"),
}
_TABS = {"watch": "Watch", "report": "Report", "recipe": "Recipe"}
# Seconds between two looks at what is shown live, and streams at once: a browser holds six.
_LOOK, _STREAMS = 1.0, 40
# Every so many looks a line goes out, so that a connection that is gone is noticed.
_BEAT = 15


class Site:
    """The handlers of all addresses.

    Args:
        workspace: that is shown.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.pages = workspace, Pages(workspace)
        self._streams = 0

    def routes(self) -> list[Route]:
        """All of them; longer addresses of runs come before shorter ones."""
        return [
            Route("/", self.runs),
            Route("/static/{name}", self.static),
            Route("/live/runs", self.live_runs),
            Route("/live/runs/{place:path}", self.live_run),
            Route("/runs/{place:path}/report", self.report),
            Route("/runs/{place:path}", self.run),
        ]

    def static(self, request: Request) -> Response:
        """A file of the page itself."""
        known = _FILES.get(request.path_params["name"])
        if known is None:
            raise HTTPException(404)
        return Response(known[0].read_bytes(), media_type=known[1], headers={"Cache-Control": "no-cache"})

    def runs(self, request: Request) -> Response:
        """The list of all runs."""
        return self._html("runs.html.jinja", here="runs", runs=self.pages.list_runs())

    def run(self, request: Request) -> Response:
        """One run: what is shown of it goes by `show`."""
        seen = self._find(request, log=True)
        shown = request.query_params.get("show") or ("report" if seen.state == "finished" else "watch")
        if shown not in _TABS:
            raise HTTPException(404)
        return self._html(
            "run.html.jinja",
            here="runs",
            tabs=_TABS.items(),
            shown=shown,
            report=self._has_report(seen),
            recipe=as_yaml(seen.config),
            command=self._command(seen),
            **self.pages.watch(seen),
        )

    def report(self, request: Request) -> Response:
        """The report of a run, which its own policy keeps away from this page."""
        seen = self._find(request)
        if not self._has_report(seen):
            raise HTTPException(404)
        text = self.workspace.read(seen.place, file_names.REPORT_HTML)
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    async def live_runs(self, request: Request) -> Response:
        """The list of all runs, each time that it changes."""
        return self._stream(lambda: self.pages.render("runs_list.html.jinja", runs=self.pages.list_runs()))

    async def live_run(self, request: Request) -> Response:
        """What a run does, each time that it changes."""
        place = (await run_in_threadpool(self._find, request)).place

        def render() -> str:
            seen = look_at(self.workspace, place, log=True)
            return self.pages.render("watch.html.jinja", **self.pages.watch(seen))

        return self._stream(render)

    def _find(self, request: Request, *, log: bool = False) -> SeenRun:
        """The run of an address, looked up among those that were found."""
        place = request.path_params["place"]
        if place not in self.workspace.find_runs():
            raise HTTPException(404, "there is no such run in this folder")
        return look_at(self.workspace, place, log=log)

    def _has_report(self, seen: SeenRun) -> bool:
        return not seen.problem and self.workspace.has(seen.place, file_names.REPORT_HTML)

    def _command(self, seen: SeenRun) -> str:
        task = "sft" if seen.kind == "data" else "inject"
        return as_command(["demask", task, "recipe.yaml", "--out", seen.place])

    def _html(self, name: str, **values: object) -> Response:
        return HTMLResponse(self.pages.render(name, **values))

    def _stream(self, render: Callable[[], str]) -> Response:
        """Server-sent events: a part of the page, when it has changed."""
        if self._streams >= _STREAMS:
            raise HTTPException(503, "too many pages are open; close some")
        return StreamingResponse(self._events(render), media_type="text/event-stream")

    async def _events(self, render: Callable[[], str]) -> AsyncIterator[str]:
        self._streams += 1
        try:
            sent, looks = b"", 0
            while True:
                html = await run_in_threadpool(render)
                digest = hashlib.sha256(html.encode()).digest()
                if digest != sent:
                    sent = digest
                    yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
                elif looks % _BEAT == 0:
                    yield ": still here\n\n"
                looks += 1
                await asyncio.sleep(_LOOK)
        finally:
            self._streams -= 1


def _explain(request: Request, error: Exception) -> Response:
    """What went wrong, as a page or for a script."""
    if isinstance(error, HTTPException):
        status, text = error.status_code, error.detail
    else:
        status, text = 400, str(error)
    if "text/html" in request.headers.get("accept", ""):
        return PlainTextResponse(f"{status}: {text}\n", status_code=status)
    return JSONResponse({"error": text}, status_code=status)


def make_app(workspace: Workspace, door: Door) -> Guard:
    """The whole application, guarded.

    Args:
        workspace: that it shows.
        door: what opens it.
    """
    site = Site(workspace)
    app = Starlette(routes=site.routes(), exception_handlers={HTTPException: _explain, DemaskError: _explain})
    return Guard(app, door)


def serve(workspace: Workspace, door: Door) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        workspace: that is shown.
        door: what opens it, and where it is listened at.
    """
    config = uvicorn.Config(
        make_app(workspace, door),
        host=door.host,
        port=door.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,  # nobody stands in front, so nobody may say who asks
        timeout_graceful_shutdown=1,  # streams end only with their pages
    )
    uvicorn.Server(config).run()
