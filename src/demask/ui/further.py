"""What is done with finished runs: exported, updated, moved back, undone, compared, by commands of `demask`.

routes = Further(pages, jobs, sets, streams).routes()
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from demask.errors import ConfigError, RunError
from demask.recipe.sections import NO_QUESTIONS
from demask.reports.line import history_table, triangle_table
from demask.reports.runs import read_line_rows
from demask.reports.tables import Table
from demask.storage import file_names
from demask.ui.document_sets import DocumentSets
from demask.ui.folders import COMPARISONS, EXPORTS, RUNS, check_name
from demask.ui.jobs import Jobs
from demask.ui.pages import Pages, as_command
from demask.ui.plans import describe_job
from demask.ui.recipes import BUDGETS, Choice
from demask.ui.runs import SeenRun
from demask.ui.safety import REPORT_POLICY
from demask.ui.streams import Streams
from demask.ui.teaching import read_json

TARGETS = (
    Choice(
        "f16",
        "A file for llama.cpp, LM Studio and others",
        "All that the model has learned, in half the size.",
        "GGUF, f16",
    ),
    Choice("q8_0", "A smaller file", "A quarter of the size; nearly always as good.", "GGUF, q8_0"),
    Choice(
        "q4_k_m", "The smallest file", "May lose some of what was learned; see the report.", "GGUF, q4_k_m"
    ),
    Choice("ollama", "For Ollama", "The same as f16, with a Modelfile.", "GGUF and Modelfile"),
)
# Files that lead back from a run: which one it goes on from, or what training has changed.
_WAYS_BACK = ((file_names.LINEAGE,), (file_names.DELTA, "config.json"))
# Runs that a comparison takes.
_FEWEST, _MOST = 2, 12


class Further:
    """The handlers of what comes after a run.

    Args:
        pages: that are shown.
        jobs: that do the work.
        sets: of documents, to update with.
        streams: for what is shown live.
    """

    def __init__(self, pages: Pages, jobs: Jobs, sets: DocumentSets, streams: Streams) -> None:
        self.pages, self.jobs, self.sets, self.streams = pages, jobs, sets, streams
        self.workspace = pages.workspace

    def routes(self) -> list[Route]:
        """They come before those of runs, which take any longer address."""
        return [
            Route("/compare", self.compare),
            Route("/live/compare", self.live_compare),
            Route("/api/compare", self.start_comparison, methods=["POST"]),
            Route("/comparisons/{name}", self.comparison),
            Route("/live/further/{place:path}", self.live),
            Route("/api/runs/{place:path}/further", self.do, methods=["POST"]),
        ]

    def values(self, seen: SeenRun) -> dict[str, Any]:
        """Values of `further.html.jinja`."""
        return {
            "targets": TARGETS,
            "softer": [choice for choice in BUDGETS if choice.value],
            "sets": [one.name for one in self.sets.find_all() if one.files],
            "history": self._history(seen),
            "exports": self._exports(seen),
            "leads_back": self._leads_back(seen),
            "commands": self._commands(seen),
        }

    async def live(self, request: Request) -> Response:
        """Exports, each time that they change."""
        seen = await run_in_threadpool(self._find, request.path_params["place"])
        render = self.pages.render
        return self.streams.open(lambda: render("exports.html.jinja", seen=seen, exports=self._exports(seen)))

    async def do(self, request: Request) -> Response:
        """A task of a finished run."""
        seen = await run_in_threadpool(self._find, request.path_params["place"])
        given = await read_json(request)
        task = {
            "export": self._export,
            "update": self._update,
            "retain": self._retain,
            "gate": self._gate,
            "undo": self._undo,
        }.get(str(given.get("task")))
        if task is None:
            raise HTTPException(404)
        return JSONResponse(await asyncio.to_thread(task, seen, given))

    def compare(self, request: Request) -> Response:
        """Finished runs to choose from, and comparisons that were made."""
        return self._html("compare.html.jinja", runs=self._finished(), **self._comparisons())

    async def live_compare(self, request: Request) -> Response:
        """Comparisons, each time that they change."""
        return self.streams.open(lambda: self.pages.render("comparisons.html.jinja", **self._comparisons()))

    async def start_comparison(self, request: Request) -> Response:
        """Have runs compared."""
        given = await read_json(request)
        wanted = given.get("runs")
        places = [seen.place for seen in await run_in_threadpool(self._finished)]
        if (
            not isinstance(wanted, list)
            or not _FEWEST <= len(wanted) <= _MOST
            or not set(wanted) <= set(places)
        ):
            raise ConfigError(f"choose {_FEWEST} to {_MOST} finished runs to compare")
        name = " and ".join(place.rsplit("/", 1)[-1] for place in wanted)[:80].strip()
        out = f"{COMPARISONS}/{check_name(name, 'name')}.html"
        words = ["compare", *wanted, "--out", out, "--overwrite", "--measure", "none", "--json"]
        await run_in_threadpool(lambda: self.jobs.add("compare", words, about=name))
        return JSONResponse({})

    def comparison(self, request: Request) -> Response:
        """A page that compares runs, kept away from this one as reports are."""
        name = request.path_params["name"]
        if name not in self._comparisons()["made"]:
            raise HTTPException(404)
        text = self.workspace.read(COMPARISONS, f"{name}.html")
        return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})

    def _comparisons(self) -> dict[str, Any]:
        made = self.workspace.find_names(COMPARISONS, ".html")
        latest = {job.about: job for job in reversed(self.jobs.find_all("compare"))}
        return {"made": made, "comparing": [describe_job(self.jobs, job) for job in latest.values()]}

    def _finished(self) -> list[SeenRun]:
        seen = (self.pages.see(place) for place in self.pages.find_places())
        return [
            run for run in seen if run.state == "finished" and not run.problem and run.kind == "documents"
        ]

    def _history(self, seen: SeenRun) -> list[Table]:
        """The runs that this one goes on from; of one that goes on from none nothing."""
        summary = self.workspace.read_json(seen.place, file_names.SUMMARY)
        rows = read_line_rows(summary) if isinstance(summary, dict) else ()
        return [history_table(rows), triangle_table(rows)] if len(rows) > 1 else []

    def _leads_back(self, seen: SeenRun) -> bool:
        """Whether there is a model before this run, other than the base model."""
        return any(self.workspace.has(seen.place, *place) for place in _WAYS_BACK)

    def _exports(self, seen: SeenRun) -> list[dict[str, Any]]:
        found = []
        for job in self.jobs.find_all("export"):
            if job.more.get("run") == seen.place:
                result = self.jobs.read_result(job)
                files = result.get("files") if isinstance(result, dict) else None
                out = str(job.more.get("out"))
                found.append(
                    {"work": describe_job(self.jobs, job), "files": files or [out], "what": job.about}
                )
        return found

    def _commands(self, seen: SeenRun) -> list[tuple[str, str]]:
        """What else can be done in a terminal."""
        return [
            ("Talk to it in a terminal", as_command(["demask", "chat", seen.place])),
            ("Serve it to other programs", as_command(["demask", "serve", seen.place])),
            (
                "Put it on the Hugging Face hub",
                as_command(["demask", "export", seen.place, "--to", "hub", "--repo", "OWNER/NAME"]),
            ),
        ]

    def _export(self, seen: SeenRun, given: Mapping[str, Any]) -> dict[str, Any]:
        form = str(given.get("form"))
        if form not in {choice.value for choice in TARGETS}:
            raise ConfigError(f"form: {form[:40]!r}, expected one of those that are offered")
        out = f"{EXPORTS}/{seen.name}-{form}"
        words = [
            "export",
            seen.place,
            "--to",
            "ollama" if form == "ollama" else "gguf",
            "--out",
            out,
            "--json",
        ]
        if form != "ollama":
            words += ["--quant", form]
        self.jobs.add("export", words, about=f"{seen.name}-{form}", more={"run": seen.place, "out": out})
        return {}

    def _update(self, seen: SeenRun, given: Mapping[str, Any]) -> dict[str, Any]:
        found = self.sets.find(str(given.get("documents")))
        if found is None or not found.files:
            raise ConfigError("documents: expected the name of some that were dropped here")
        place = self._new_place(given.get("name"))
        words = ["update", seen.place, "--documents", found.place, "--out", place, "--json"]
        if given.get("questions") == NO_QUESTIONS:
            words += ["--qa", NO_QUESTIONS]
        elif self.sets.questions(found.name):
            words += ["--qa", self.sets.questions_place(found.name)]
        self.jobs.add("run", words, about=place, more={"documents": found.name})
        return {"go": f"/runs/{place}?show=watch"}

    def _retain(self, seen: SeenRun, given: Mapping[str, Any]) -> dict[str, Any]:
        budget = str(given.get("budget"))
        if budget not in {choice.value for choice in BUDGETS if choice.value}:
            raise ConfigError(f"budget: {budget[:40]!r}, expected one of those that are offered")
        place = self._new_place(given.get("name"))
        words = ["retain", seen.place, "--budget", budget, "--out", place, "--json"]
        self.jobs.add("run", words, about=place)
        return {"go": f"/runs/{place}?show=watch"}

    def _gate(self, seen: SeenRun, given: Mapping[str, Any]) -> dict[str, Any]:
        if self.workspace.has(seen.place, file_names.GATE):
            raise RunError(f"{seen.place}: has a gate already")
        place = self._new_place(given.get("name"))
        self.jobs.add("run", ["retain", seen.place, "--gate", "--out", place, "--json"], about=place)
        return {"go": f"/runs/{place}?show=watch"}

    def _undo(self, seen: SeenRun, given: Mapping[str, Any]) -> dict[str, Any]:
        out = f"{EXPORTS}/{seen.name}-undone"
        words = ["undo", seen.place, "--out", out, "--json"]
        self.jobs.add("export", words, about=f"{seen.name}-undone", more={"run": seen.place, "out": out})
        return {}

    def _new_place(self, given: object) -> str:
        name = check_name(given, "name")
        place = f"{RUNS}/{name}"
        if self.workspace.inner(place).exists() or self.jobs.find_all("run", place):
            raise ConfigError(f"{name}: there is a model of this name already; choose another one")
        return place

    def _find(self, place: str) -> SeenRun:
        if place not in self.pages.find_places():
            raise HTTPException(404, "there is no such run in this folder")
        seen = self.pages.see(place)
        if seen.state != "finished" or seen.problem:
            raise RunError(f"{place}: is not finished; wait until it has learned")
        return seen

    def _html(self, name: str, **values: Any) -> Response:
        return HTMLResponse(self.pages.render(name, here="compare", **values))
