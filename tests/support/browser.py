"""Headless Chromium, controlled over the DevTools protocol through a pair of pipes: opens pages, runs scripts
in them, and takes pictures."""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

SECONDS = 60.0
"""Timeout of one command, and of the loading of a page."""
KEYS = {"Backspace": 8, "Tab": 9, "Enter": 13}
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """A running Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._messages: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """Events that no call of `wait` has taken yet."""
        threading.Thread(target=self._read, args=(answers,), daemon=True).start()

    def _read(self, answers: int) -> None:
        with open(answers, "rb") as stream:
            data = b""
            while part := stream.read1(1 << 20):
                *whole, data = (data + part).split(b"\0")
                for message in whole:
                    self._messages.put(json.loads(message))
        self._messages.put(None)

    def send(self, method: str, session: str = "", **fields: Any) -> Any:
        """Sends a command and returns its result. Raises AssertionError if it fails or takes too long."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": fields}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        found = self._next(lambda one: one.get("id") == self._number)
        assert "error" not in found, f"{method}: {found['error']}"
        return found["result"]

    @contextmanager
    def page(self, width: int) -> "Iterator[Page]":
        """Opens a tab of this width, and closes it at the end."""
        page = Page(self, width)
        try:
            yield page
        finally:
            self.send("Target.closeTarget", targetId=page.target)

    def wait(self, method: str, session: str) -> None:
        """Waits for the event `method` of a session. An event that came before counts, but only once."""
        for number, event in enumerate(self.events):
            if (event["method"], event.get("sessionId")) == (method, session):
                del self.events[number]
                return
        self._next(lambda one: (one.get("method"), one.get("sessionId")) == (method, session))

    def _next(self, wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while True:
            try:
                message = self._messages.get(timeout=max(end - time.monotonic(), 0))
            except Empty:
                raise AssertionError("the browser does not answer") from None
            assert message is not None, "the browser has ended"
            if wanted(message):
                return message
            if "method" in message:
                self.events.append(message)


class Page:
    """A tab of a given width."""

    def __init__(self, browser: Browser, width: int) -> None:
        self._browser = browser
        self.target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.send("Target.attachToTarget", targetId=self.target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def _send(self, method: str, **fields: Any) -> Any:
        return self._browser.send(method, self._session, **fields)

    def open(self, url: str) -> None:
        """Loads a page and waits for its scripts."""
        found = self._send("Page.navigate", url=url)
        assert "errorText" not in found, found
        if "loaderId" in found:  # else only the fragment differs
            self._browser.wait("Page.loadEventFired", self._session)

    def run(self, expression: str) -> Any:
        """Returns the value of an expression in the page, or of its promise."""
        found = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Waits until an expression is true in the tab, even if the tab loads another page meanwhile."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                if self.run(f"Boolean({expression})"):
                    return
            except AssertionError:  # one page goes, the next one comes
                pass
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def prefer_colors(self, scheme: str) -> None:
        """Sets the color scheme that the user prefers: `light` or `dark`."""
        self._send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def scripts(self, *, on: bool) -> None:
        """Sets whether pages opened from now on run their scripts."""
        self._send("Emulation.setScriptExecutionDisabled", value=not on)

    def press(self, key: str, text: str = "") -> None:
        """Presses and releases a key in the page."""
        fields: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        fields |= {"text": text} if text else {}
        self._send("Input.dispatchKeyEvent", type="keyDown", **fields)
        self._send("Input.dispatchKeyEvent", type="keyUp", **fields)

    def type(self, text: str) -> None:
        """Types into the element that has the focus."""
        self._send("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Clicks at the middle of the first element that matches a CSS selector. If another element covers it
        there, that one gets the click."""
        x, y = self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.scrollIntoView(); "
            "const box = one.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """Writes a picture of the whole page."""
        found = self._send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """Returns the console's errors and warnings, and the exceptions of scripts."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            fields = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(fields["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and fields["entry"]["level"] in ("error", "warning"):
                found.append(f"{fields['entry']['text']} {fields['entry'].get('url')}")
            if event["method"] == "Runtime.consoleAPICalled" and fields["type"] in (
                "error",
                "warning",
                "assert",
            ):
                found.append(str(fields["args"]))
        return found


@contextmanager
def chromium(directory: Path) -> Iterator[Browser]:
    """Runs Chromium with a profile of its own in `directory`."""
    read_commands, write_commands = os.pipe()
    read_answers, write_answers = os.pipe()
    # Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
    shell = f'exec chromium "$@" 3<&{read_commands} 4>&{write_answers}'
    with open(directory / "chromium.log", "wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *ARGUMENTS, f"--user-data-dir={directory}/profile", "about:blank"],
            pass_fds=(read_commands, write_answers),
            env={**os.environ, "HOME": str(directory)},
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    os.close(read_commands)
    os.close(write_answers)
    browser = Browser(write_commands, read_answers)
    try:
        yield browser
        browser.send("Browser.close")
    finally:
        os.close(write_commands)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
