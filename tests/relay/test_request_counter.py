import itertools

from hypothesis import given
from hypothesis import strategies as st

from tools.relay.requests import RequestCounter

GET = b"GET /v2/ HTTP/1.1\r\nHost: origin\r\n\r\n"
POST = b"POST /v2/ HTTP/1.1\r\nContent-Length: 9\r\n\r\n\r\n\r\nbody!"


def _pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.sampled_from([GET, POST]), max_size=8), st.lists(st.integers(0, 1000), max_size=12))
def test_requests_are_counted_however_the_stream_is_cut(requests: list[bytes], cuts: list[int]) -> None:
    counter = RequestCounter()
    for piece in _pieces(b"".join(requests), cuts):
        counter.feed(piece)
    assert counter.requests == len(requests)


def test_a_head_under_way_is_no_request_yet() -> None:
    counter = RequestCounter()
    counter.feed(GET[:-1])
    assert counter.requests == 0
    counter.feed(GET[-1:])
    assert counter.requests == 1


def test_what_a_tunnel_carries_is_not_parsed() -> None:
    counter = RequestCounter()
    counter.feed(b"CONNECT origin:443 HTTP/1.1\r\n\r\n" + GET + GET)
    assert counter.requests == 1
