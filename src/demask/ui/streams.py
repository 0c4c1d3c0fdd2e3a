"""Parts of the page that are sent again when they have changed, as server-sent events.

streams = Streams()
return streams.open(lambda: pages.render("runs_list.html.jinja", runs=...))
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

# Seconds between two looks at what is shown, and streams at once: a browser holds six.
_LOOK, _MOST = 1.0, 40
# Of the time between two looks at most a fiftieth goes into the look: what trains here must not notice.
_SHARE = 50
# Every so many looks something goes out, so that a connection that is gone is noticed.
_BEAT = 15


class Streams:
    """All that is shown live now."""

    def __init__(self) -> None:
        self._open = 0

    def open(self, render: Callable[[], str]) -> Response:
        """Send what `render` gives, each time that it differs.

        Args:
            render: reads files, so it is called in a thread.

        Raises:
            HTTPException: too many are open.
        """
        if self._open >= _MOST:
            raise HTTPException(503, "too many pages are open; close some")
        return StreamingResponse(self._events(render), media_type="text/event-stream")

    async def _events(self, render: Callable[[], str]) -> AsyncIterator[str]:
        self._open += 1
        try:
            sent, looks = b"", 0
            while True:
                html, took = await run_in_threadpool(_timed, render)
                digest = hashlib.sha256(html.encode()).digest()
                if digest != sent:
                    sent = digest
                    yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
                elif looks % _BEAT == 0:
                    yield ": still here\n\n"
                looks += 1
                await asyncio.sleep(max(_LOOK, _SHARE * took))
        finally:
            self._open -= 1


def _timed(render: Callable[[], str]) -> tuple[str, float]:
    """What it gives, and the seconds of a processor that it took."""
    begun = time.thread_time()
    return render(), time.thread_time() - begun
