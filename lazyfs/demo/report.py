"""The demo's figures in words for people."""

from collections.abc import Iterator

from lazyfs.demo.story import Result, Start


def size(count: int) -> str:
    """Returns a number of bytes with a decimal unit: 1.4 MB."""
    if count < 1000:
        return f"{count} B"
    value = count / 1000
    for unit in ("kB", "MB"):
        if value < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def lines(result: Result) -> Iterator[str]:
    """Yields the lines of the report: the events of the demo in their order, and their meaning."""
    image, cold = result.image, result.starts[0]
    if image is not None:
        sizes = f"{size(image.plain_bytes)} unpacked, {size(image.compressed_bytes)} compressed"
        yield f"image      {image.name}: {image.layers} layers, {image.files:,} files, {sizes}"
    yield f"publish    {result.publish_seconds:.1f} s"
    yield "program    " + " / ".join(cold.timed.output.strip().splitlines()[:4])
    yield ""
    width = max(len(start.how) for start in result.starts)
    yield f"{'':{width}}  {'first output':>12}  {'result':>8}  {'requests':>8}  {'fetched':>9}"
    for start in result.starts:
        yield _row(start, width)
    yield ""
    if image is not None and cold.traffic is not None:
        needed, whole = cold.traffic.sent, image.compressed_bytes
        yield f"The program needed {size(needed)} of an image of {size(whole)}: {needed / whole:.0%}."
        yield "Lazy starts include mounting, but for the one that says 'again'. Layers to unpack come from"
        yield "the same server as what is read lazily."


def _row(start: Start, width: int) -> str:
    requests = "-" if start.traffic is None else f"{start.traffic.requests}"
    fetched = "-" if start.traffic is None else size(start.traffic.sent)
    seconds = f"{start.timed.first_output:>10.2f} s  {start.timed.result:>6.2f} s"
    return f"{start.how:{width}}  {seconds}  {requests:>8}  {fetched:>9}"
