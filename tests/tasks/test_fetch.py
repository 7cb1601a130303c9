"""Fetching against a server of our own on 127.0.0.1: whole, resumed, wrong, missing, broken off."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from instruction_vectors import progress
from instruction_vectors.errors import DataError
from instruction_vectors.tasks import fetch as fetching
from instruction_vectors.tasks.fetch import Original, download, fetch, originals

CONTENT = bytes(range(256)) * 1000


class Server(ThreadingHTTPServer):
    """Serves CONTENT under /file, as the attributes say, and keeps the ranges it was asked for."""

    ranges = True
    break_after: int | None = None
    broken = 0
    fail_with: list[int]
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if server.fail_with:
            self.send_error(server.fail_with.pop(0))
            return
        if self.path != "/file":
            self.send_error(404)
            return
        start = 0
        if server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if server.break_after is not None and server.broken:
            server.broken -= 1
            body = body[: server.break_after]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.fail_with = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def file(server: Server) -> Original:
    host, port = server.server_address[:2]
    return Original(f"http://{host!s}:{port}/file", "func/abstractive/x.json", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_a_file_is_fetched_checked_and_left_alone_the_next_time(file: Original, server: Server, tmp_path: Path) -> None:
    seen: list[int] = []
    path = download(file, tmp_path, seen.append)
    assert path == tmp_path / "func/abstractive/x.json"
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["x.json"]
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)
    download(file, tmp_path)
    assert len(server.asked) == 1


def test_a_download_that_broke_off_goes_on_where_it_was(file: Original, server: Server, tmp_path: Path) -> None:
    server.break_after, server.broken = 70_000, 2
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=70000-", "bytes=140000-"]


def test_what_came_is_kept_for_the_next_call(file: Original, server: Server, tmp_path: Path) -> None:
    server.break_after, server.broken = 10_000, fetching._ATTEMPTS
    with pytest.raises(DataError, match="30,000 of 256,000 bytes are kept for the next try"):
        download(file, tmp_path)
    assert not (tmp_path / file.path).exists()
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=30000-"


def test_a_server_without_ranges_sends_the_whole_again(file: Original, server: Server, tmp_path: Path) -> None:
    server.ranges, server.break_after, server.broken = False, 10_000, 1
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=10000-"]


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b""])
def test_a_part_that_is_whole_too_long_or_empty(part: bytes, file: Original, tmp_path: Path) -> None:
    path = tmp_path / file.path
    path.parent.mkdir(parents=True)
    (path.parent / ".x.json.part").write_bytes(part)
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_another_checksum_is_refused_and_nothing_kept(file: Original, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not the file that was pinned: 256,000 bytes .* expected 256,000 with 0000"):
        download(replace(file, sha256="0" * 64), tmp_path)
    assert not list((tmp_path / "func/abstractive").iterdir())


def test_a_wrong_part_is_not_gone_on_with_for_ever(file: Original, tmp_path: Path) -> None:
    path = tmp_path / file.path
    path.parent.mkdir(parents=True)
    (path.parent / ".x.json.part").write_bytes(b"wrong")
    with pytest.raises(DataError, match="not the file that was pinned"):
        download(file, tmp_path)
    assert download(file, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT) - 1, 5])
def test_a_longer_file_than_pinned_is_not_read_to_its_end(size: int, file: Original, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the file that was pinned"):
        download(replace(file, size=size), tmp_path)


def test_a_shorter_file_than_pinned_is_refused(file: Original, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        download(replace(file, size=len(CONTENT) + 5), tmp_path)
    assert not (tmp_path / file.path).exists()


def test_404_is_said_once_and_500_is_tried_again(file: Original, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/nosuch: the server answers 404 Not Found"):
        download(replace(file, url=file.url.replace("/file", "/nosuch")), tmp_path)
    assert len(server.asked) == 1
    server.fail_with = [503, 500]
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_no_connection_and_other_schemes(file: Original, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/file"):
        download(replace(file, url="http://127.0.0.1:9/file"), tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    with pytest.raises(DataError, match="only http and https"):
        download(replace(file, url=secret.as_uri()), tmp_path)


def test_another_file_in_its_place_is_not_overwritten(file: Original, tmp_path: Path) -> None:
    path = tmp_path / file.path
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(DataError, match="move it away"):
        download(file, tmp_path)
    assert path.read_text() == "mine"


def test_a_whole_benchmark_with_progress(
    file: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.0)  # off a terminal what is soon done says nothing
    files = tuple(replace(file, path=f"func/{name}.json") for name in "ab")
    assert [path.name for path in fetch("func", tmp_path, files=files)] == ["a.json", "b.json"]
    assert "512000/512000" in capsys.readouterr().err


def test_the_pinned_originals() -> None:
    assert len(originals("func")) == 47
    assert len(originals("trace")) == 23
    for file in originals("func") + originals("trace"):
        assert file.url.startswith("https://raw.githubusercontent.com/")
        assert len(file.sha256) == 64
        assert not Path(file.path).is_absolute()
        assert ".." not in file.path
    assert not any("MeetingBank/train" in file.path for file in originals("trace"))
    with pytest.raises(DataError, match="no originals are pinned for 'long', only for func, trace"):
        originals("long")
