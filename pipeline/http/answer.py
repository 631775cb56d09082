"""One connection's answers, bounded: aiohttp's protocol handler, with limits that it does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.client_proto import ResponseHandler

from pipeline.http.faults import AnswerTooLarge, Fault, NotHttp

if TYPE_CHECKING:
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

MAX_HEAD = 64 * 1024
"""Raw bytes of an answer before its body, interim answers included."""
MAX_INTERIM = 16
"""Interim answers (1xx) before the answer."""
_MAX_LINE = 8190
_MAX_HEADERS_READ = 256
_BUFFER = 32 * 1024
_SWITCHING = 101
_FINAL = 200


class BoundedAnswer(ResponseHandler):
    """Reads answers to requests and nothing else.

    An endpoint that floods us with interim answers or an endless head is cut off at once, not at the deadline; and
    bytes that nobody asked for (a second answer on the same connection) close it, or the next delivery would take
    them for its own answer.
    """

    _head_bytes = 0
    _interim = 0
    _answered = False

    def expect(self) -> None:
        """A request begins."""
        self._head_bytes = 0
        self._interim = 0
        self._answered = False
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=_BUFFER,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
            max_headers=_MAX_HEADERS_READ,
        )

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  # aiohttp's own signature
        """After a pause; aiohttp also calls it after each read, to no purpose but the time it takes."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; none when reading goes on after a pause."""
        if not self._answered:
            self._head_bytes += len(data)
            super().data_received(data)
            if self._head_bytes > MAX_HEAD and not self._answered:
                self._cut(AnswerTooLarge("The head of the answer is too long"))
        elif data and (self._payload is None or self._payload.is_eof()):
            self._cut(NotHttp("Bytes came that nobody had asked for"))
        else:
            super().data_received(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The parser has read a head."""
        if data[0].code >= _FINAL or data[0].code == _SWITCHING:
            self._answered = True
            super().feed_data(data, size)
            return
        self._interim += 1
        if self._interim > MAX_INTERIM:
            self._cut(NotHttp("Too many interim answers"))

    def _cut(self, fault: Fault) -> None:
        if self.transport is not None:
            self.transport.abort()
        if self._exception is None:
            self.set_exception(fault)
