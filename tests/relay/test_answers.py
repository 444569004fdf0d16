import itertools

from hypothesis import given
from hypothesis import strategies as st

from tools.relay.answers import Answers, Waits

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHTTP/1.1 1\r\n"
EMPTY = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
UNCHANGED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 90\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"3\r\nabc\r\nB;x=y\r\n\r\n\r\n0\r\n\r\n456\r\n0\r\n\r\n"
)
AFTER_HINTS = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN
GET = b"GET / HTTP/1.1\r\nHost: origin"


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@given(
    st.lists(st.sampled_from([PLAIN, EMPTY, UNCHANGED, CHUNKED, AFTER_HINTS]), max_size=8),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_each_answer_ends_with_its_last_byte_however_the_stream_is_cut(
    answers: list[bytes], cuts: list[int]
) -> None:
    waits = Waits()
    connection = Answers(waits)
    for answer in answers:
        connection.request(GET)
        *early, last = _pieces(answer, [*cuts, len(answer) - 1])
        before = waits.longest
        for piece in early:
            connection.feed(piece)
        other = Waits.sent(waits)
        connection.feed(last)
        assert other == before  # the answer had not ended, so the other request lengthens no chain
        assert waits.sent() == before + 1


def test_the_answer_to_a_head_request_has_no_body() -> None:
    waits = Waits()
    connection = Answers(waits)
    connection.request(b"HEAD /v2/x HTTP/1.1")
    connection.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert waits.sent() == 2


def test_requests_under_way_together_are_one_wait() -> None:
    waits = Waits()
    connections = [Answers(waits) for _ in range(20)]
    for _ in range(3):
        for connection in connections:
            connection.request(GET)
        for connection in connections:
            connection.feed(PLAIN)
    assert waits.longest == 3


def test_pipelined_requests_are_one_wait() -> None:
    waits = Waits()
    connection = Answers(waits)
    for _ in range(5):
        connection.request(GET)
    connection.feed(PLAIN * 5)
    assert waits.longest == 1
    assert waits.sent() == 2


def test_a_tunnel_is_one_request() -> None:
    waits = Waits()
    connection = Answers(waits)
    connection.request(b"CONNECT origin:443 HTTP/1.1")
    connection.feed(b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01 Content-Length: 7\r\n\r\n")
    assert waits.sent() == 1
