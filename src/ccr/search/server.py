"""The server behind the search page: loopback only; it serves the page and the collection's own files only."""

import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.search.collection import Collection, samples
from ccr.search.preview import preview
from ccr.search.searcher import Hit, Searcher
from ccr.texts.cleaning import clean_text

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("page")
LARGEST = 200 * 2**20  # bytes of a picture or clip dropped on the page
SHOWN = 24  # results of a query
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class SearchPage:
    """Answers the page's requests: `app` is the ASGI application.

    Args:
        searchers: one run, or two to compare, over the same collection.
        translations: files with machine translations of captions, by caption id (`parent_id`).
    """

    def __init__(self, searchers: Sequence[Searcher], translations: Sequence[str] = ()):
        self._searchers = searchers
        self._collection: Collection = searchers[0].collection
        self._known = {caption.text: caption for caption in self._collection.captions}
        self._captions: dict[int, list[dict[str, str]]] = {}
        for caption in self._collection.captions:
            found = {"lang": caption.lang, "text": caption.text}
            self._captions.setdefault(caption.row, []).append(found)
        self._translated: dict[str, str] = {}
        for path in translations:
            table = read_parquet(path, CAPTIONS, columns=["parent_id", "text"])
            self._translated |= zip(table["parent_id"].to_pylist(), table["text"].to_pylist(), strict=True)
        self.app = Starlette(
            routes=[
                Route("/", lambda _: FileResponse(PAGE / "index.html", headers=HEADERS)),
                Mount("/page", StaticFiles(directory=PAGE)),
                Route("/about", self._about),
                Route("/search", self._search),
                Route("/words", self._words),
                Route("/like", self._like, methods=["POST"]),
                Route("/media/{row:int}", self._media),
                Route("/preview/{row:int}", self._preview),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
            exception_handlers={CcrError: _message},
        )

    def _about(self, _: Request) -> Response:
        collection = self._collection
        return JSONResponse(
            {
                "runs": [searcher.name for searcher in self._searchers],
                "langs": self._searchers[0].langs,
                "items": len(collection.item_ids),
                "accepts_files": collection.extracts,
                "samples": [{"lang": c.lang, "text": c.text} for c in samples(collection.captions)],
            }
        )

    def _search(self, request: Request) -> Response:
        text = request.query_params.get("text", "")
        caption = self._known.get(text)
        begin = time.perf_counter()
        answers = []
        for searcher in self._searchers:
            answer: dict[str, Any] = {"run": searcher.name, "hits": self._shown(searcher.search(text, SHOWN))}
            if caption:
                answer["right"] = {"row": caption.row, "rank": searcher.standing(text, caption.row)}
            answers.append(answer)
        seconds = time.perf_counter() - begin
        translation = self._translated.get(caption.caption_id) if caption else None
        return JSONResponse({"answers": answers, "translation": translation, "seconds": seconds})

    def _words(self, request: Request) -> Response:
        row, run = _number(request, "row"), _number(request, "run")
        if not (0 <= row < len(self._collection.item_ids) and 0 <= run < len(self._searchers)):
            raise HTTPException(404)
        text = clean_text(request.query_params.get("text", ""))
        words = self._searchers[run].words(text, row)
        return JSONResponse({"text": text, "words": [{"start": s, "end": e, "score": score} for s, e, score in words]})

    async def _like(self, request: Request) -> Response:
        if request.headers.get("origin") not in (None, f"http://{request.headers['host']}"):
            raise HTTPException(403)
        kind = "video" if request.query_params.get("type", "").startswith("video/") else "image"
        with tempfile.NamedTemporaryFile() as file:
            size = 0
            async for part in request.stream():
                size += len(part)
                if size > LARGEST:
                    raise CcrError(f"This file is larger than {LARGEST >> 20} MB.")
                file.write(part)
            file.flush()
            answers = await run_in_threadpool(self._answers_like, Path(file.name), kind)
        return JSONResponse({"answers": answers})

    def _answers_like(self, file: Path, kind: str) -> list[dict[str, Any]]:
        answers, features = [], self._collection.extract(file, kind)
        for searcher in self._searchers:
            captions, hits = searcher.like(features, SHOWN)
            found = [{"lang": c.lang, "text": c.text, "score": score} for c, score in captions]
            answers.append({"run": searcher.name, "captions": found, "hits": self._shown(hits)})
        return answers

    def _shown(self, hits: Sequence[Hit]) -> list[dict[str, Any]]:
        return [
            {
                "row": hit.row,
                "id": hit.item_id,
                "score": hit.score,
                "kind": self._collection.kind(hit.row) if self._collection.file(hit.row) else None,
                "captions": self._captions.get(hit.row, []),
            }
            for hit in hits
        ]

    def _media(self, request: Request) -> Response:
        return FileResponse(self._file(request), headers=HEADERS)

    def _preview(self, request: Request) -> Response:
        image = preview(self._file(request))
        if image is None:
            raise HTTPException(404)
        return Response(image, media_type="image/webp", headers=HEADERS)

    def _file(self, request: Request) -> Path:
        row = request.path_params["row"]
        file = self._collection.file(row) if row < len(self._collection.item_ids) else None
        if file is None:
            raise HTTPException(404)
        return file


def _number(request: Request, name: str) -> int:
    value = request.query_params.get(name, "")
    if not value.isdecimal():
        raise HTTPException(400, f"{name}: expected a number")
    return int(value)


def _message(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=422)


def serve(page: SearchPage, port: int) -> None:
    """Serve the page on the loopback interface until Ctrl-C; `CcrError` if the port is taken.

    Args:
        port: 0 for any free one.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # whoever reads the address below may connect at once
    except OSError as error:
        raise CcrError(f"--port {port}: {error.strerror}. Give another one, or 0 for any that is free.") from error
    print(f"http://{HOST}:{listening.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(page.app, log_level="warning")).run([listening])
