"""The page's server: runs and all that is done with them, on loopback, without models.

    serve(Workspace(Path("models")), Door(new_token(), 8765))     # until Ctrl-C

A handler that reads files is a plain function, which runs in a thread; the loop never waits for a disk.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from demask.errors import DemaskError, RunError
from demask.reports.page import TEMPLATES as REPORT_TEMPLATES
from demask.storage import file_names
from demask.storage.locks import holding
from demask.ui.asking import FORMS, IDLE, Asking
from demask.ui.document_sets import DocumentSets
from demask.ui.folders import HIDDEN, Workspace
from demask.ui.further import Further
from demask.ui.jobs import Job, Jobs, JobState
from demask.ui.pages import Pages, as_command, as_yaml
from demask.ui.runs import SeenRun
from demask.ui.safety import REPORT_POLICY, Door, Guard
from demask.ui.streams import Streams
from demask.ui.teaching import Teaching, read_json

# Bytes of one file that is dropped.
MOST_UPLOAD = 200_000_000
STATIC = Path(__file__).parent / "static"
# Files that are served, by name, each with its type.
_FILES = {
    "report.css": (REPORT_TEMPLATES / "report.css", "text/css"),
    "page.css": (STATIC / "page.css", "text/css"),
    "page.js": (STATIC / "page.js", "text/javascript"),
    "ask.js": (STATIC / "ask.js", "text/javascript"),
}
_TABS = {"watch": "Watch", "ask": "Ask", "report": "Report", "further": "Further", "recipe": "Recipe"}
# Seconds between two looks at the jobs.
_LOOK = 0.5
# That read files at once. With Starlette's 40, each with a log of 5,000 steps, 200 requests together took the
# server beyond 100 MB.
_THREADS = 6
# Seconds without a question after which models are freed while a job waits for memory.
SHORT_IDLE = 10.0


class Site:
    """The handlers of runs and jobs.

    Args:
        pages: that are shown.
        jobs: that work.
        streams: for what is shown live.
        asking: answers questions.
        further: what is done with finished runs.
    """

    def __init__(self, pages: Pages, jobs: Jobs, streams: Streams, asking: Asking, further: Further) -> None:
        self.pages, self.jobs, self.streams, self.asking = pages, jobs, streams, asking
        self.further, self.workspace = further, pages.workspace

    def routes(self) -> list[Route]:
        """All addresses of runs; longer ones come before shorter ones."""
        return [
            Route("/", self.runs),
            Route("/static/{name}", self.static),
            Route("/live/runs", self.live_runs),
            Route("/live/runs/{place:path}", self.live_run),
            Route("/runs/{place:path}/report", self.report),
            Route("/runs/{place:path}", self.run),
            Route("/api/runs/{place:path}/ask", self.ask, methods=["POST"]),
            Route("/api/runs/{place:path}/{task}", self.do, methods=["POST"]),
            Route("/api/jobs/{id}/{task}", self.steer, methods=["POST"]),
        ]

    def static(self, request: Request) -> Response:
        """A file of the page itself."""
        known = _FILES.get(request.path_params["name"])
        if known is None:
            raise HTTPException(404)
        return Response(known[0].read_bytes(), media_type=known[1], headers={"Cache-Control": "no-cache"})

    def runs(self, request: Request) -> Response:
        """The list of all runs."""
        return self._html("runs.html.jinja", runs=self.pages.list_runs())

    def run(self, request: Request) -> Response:
        """One run: what is shown of it goes by `show`."""
        seen = self._find(request, log=True)
        shown = request.query_params.get("show") or ("report" if seen.state == "finished" else "watch")
        if shown not in _TABS:
            raise HTTPException(404)
        return self._html(
            "run.html.jinja",
            tabs=_TABS.items(),
            shown=shown,
            report=self._has_report(seen),
            recipe=as_yaml(seen.config),
            command=self._command(seen),
            ready=self._has_model(seen),
            gated=self.workspace.has(seen.place, file_names.GATE),
            forms=FORMS,
            questions=self.asking.questions(seen.place) if shown == "ask" else (),
            finished=seen.state == "finished" and not seen.problem,
            **(self.further.values(seen) if shown == "further" else {}),
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
        render = self.pages.render
        return self.streams.open(lambda: render("runs_list.html.jinja", runs=self.pages.list_runs()))

    async def live_run(self, request: Request) -> Response:
        """What a run does, each time that it changes."""
        place = (await run_in_threadpool(self._find, request)).place

        def render() -> str:
            return self.pages.render("watch.html.jinja", **self.pages.watch(self.pages.see(place, log=True)))

        return self.streams.open(render)

    async def ask(self, request: Request) -> Response:
        """An answer of a run's model and its base, as lines of JSON while it is written."""
        seen = await run_in_threadpool(self._find, request)
        wanted = self.asking.check(await read_json(request))
        if not self._has_model(seen):
            raise RunError(f"{seen.place}: there is no trained model yet; wait until it has learned")

        async def lines() -> AsyncIterator[str]:
            async for said in self.asking.ask(seen.place, wanted):
                yield json.dumps(said, ensure_ascii=False) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def do(self, request: Request) -> Response:
        """A task of a run, by the last part of the address."""
        seen, task = self._find(request), request.path_params["task"]
        if task == "stop":
            self._stop(seen)
        elif task == "anyway" and seen.job is not None:
            self.jobs.start_anyway(seen.job.id)
        elif task == "resume" and seen.job is not None:
            old = seen.job
            self.jobs.add("run", old.words, about=old.about, needs=old.needs, more=old.more)
        elif task == "forget" and seen.job is not None and not seen.config:
            self.jobs.forget(seen.job)
            return JSONResponse({"go": "/"})
        else:
            raise HTTPException(404)
        return JSONResponse({})

    def steer(self, request: Request) -> Response:
        """Stop a job, or start it though memory seems short."""
        id, task = request.path_params["id"], request.path_params["task"]
        if self.jobs.find(id) is None or task not in ("stop", "anyway"):
            raise HTTPException(404)
        self.jobs.stop(id) if task == "stop" else self.jobs.start_anyway(id)
        return JSONResponse({})

    def _stop(self, seen: SeenRun) -> None:
        """As Ctrl-C would, also a run that was started in a terminal of this machine."""
        if seen.job is not None and self.jobs.state(seen.job) in ("waiting", "running"):
            self.jobs.stop(seen.job.id)
            return
        holder = seen.holder
        if holder is None or not holder.pid or holder.host != socket.gethostname():
            raise RunError(f"{seen.place}: nothing on this machine works there now; see where it was started")
        with suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGTERM)

    def _find(self, request: Request, *, log: bool = False) -> SeenRun:
        """The run of an address, looked up among those that were found."""
        place = request.path_params["place"]
        if place not in self.pages.find_places():
            raise HTTPException(404, "there is no such run in this folder")
        return self.pages.see(place, log=log)

    def _has_report(self, seen: SeenRun) -> bool:
        return not seen.problem and self.workspace.has(seen.place, file_names.REPORT_HTML)

    def _has_model(self, seen: SeenRun) -> bool:
        """Whether it can be asked: a model is stored when training is over."""
        place = f"{seen.place}/{file_names.MODEL}"
        return (
            not seen.problem
            and self.workspace.has(place, "config.json")
            and not self.workspace.find_links(place)
        )

    def _command(self, seen: SeenRun) -> str:
        if seen.job is not None:
            return as_command([word for word in seen.job.command if word != "--json"])
        task = "sft" if seen.kind == "data" else "inject"
        return as_command(["demask", task, "recipe.yaml", "--out", seen.place])

    def _html(self, name: str, **values: object) -> Response:
        return HTMLResponse(self.pages.render(name, here="runs", **values))


def _explain(request: Request, error: Exception) -> Response:
    """What went wrong, in one line."""
    if isinstance(error, HTTPException):
        status, text = error.status_code, error.detail
    else:
        status, text = 400, str(error)
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(request.app.state.pages.render("error.html.jinja", here="", text=text), status)
    return JSONResponse({"error": text}, status_code=status)


def make_app(workspace: Workspace, door: Door, *, most_upload: int = MOST_UPLOAD) -> Guard:
    """The whole application, guarded.

    Args:
        workspace: that it shows.
        door: what opens it.
        most_upload: bytes of one file that is dropped.
    """
    jobs, streams, asking = Jobs(workspace), Streams(), Asking(workspace)
    pages, sets = Pages(workspace, jobs), DocumentSets(workspace, jobs)

    def take(job: Job, state: JobState) -> None:
        if job.kind == "questions" and state == "done":
            sets.take_questions(job)
        if job.kind == "read" and state == "done":
            sets.read_again(job)

    jobs.on_end = take

    @asynccontextmanager
    async def working(app: Starlette) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        sets.sweep()
        task = asyncio.create_task(_advance(jobs, asking))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asking.free()
        jobs.let_go()

    further = Further(pages, jobs, sets, streams)
    app = Starlette(
        routes=[
            *further.routes(),
            *Site(pages, jobs, streams, asking, further).routes(),
            *Teaching(pages, jobs, sets, streams, most=most_upload).routes(),
        ],
        exception_handlers={HTTPException: _explain, DemaskError: _explain},
        lifespan=working,
    )
    app.state.pages = pages
    return Guard(app, door)


async def _advance(jobs: Jobs, asking: Asking) -> None:
    """Look after the jobs until the server ends; they go on without it, but what waits then waits."""
    while True:
        with suppress(OSError, DemaskError):  # a full disk is said where somebody asks for something
            await asyncio.to_thread(jobs.advance)
        short = await asyncio.to_thread(jobs.wants_memory)
        await asking.free_if_idle(seconds=SHORT_IDLE if short else IDLE)
        await asyncio.sleep(_LOOK)


def serve(workspace: Workspace, door: Door, *, most_upload: int = MOST_UPLOAD) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        workspace: that is shown.
        door: what opens it, and where it is listened at.
        most_upload: bytes of one file that is dropped.

    Raises:
        RunError: another server works in this folder.
    """
    config = uvicorn.Config(
        make_app(workspace, door, most_upload=most_upload),
        host=door.host,
        port=door.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,  # nobody stands in front, so nobody may say who asks
        timeout_graceful_shutdown=1,  # streams end only with their pages
    )
    try:
        with holding(workspace.inner(HIDDEN)):
            uvicorn.Server(config).run()
    except RunError as error:
        raise RunError(
            f"{workspace.path}: another 'demask ui' works in this folder; open its address, or end it first"
        ) from error
