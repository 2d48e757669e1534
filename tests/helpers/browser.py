"""A headless Chromium, driven over a pipe by its DevTools protocol."""

import itertools
import json
import os
import shutil
import signal
import tempfile
import time

PATH = shutil.which("chromium")
_TIMEOUT_S = 60  # a machine may be busy


class Browser:
  """One tab. Use as a context manager.

  Attributes:
    log: what pages wrote to the console, and exceptions that they did not catch.
    urls: of every request.
  """

  def __init__(self):
    self.log, self.urls = [], []

  def __enter__(self):
    self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    commands, self._to = os.pipe()
    self._from, replies = os.pipe()
    arguments = [  # it reads commands from descriptor 3 and answers to 4
        PATH, "--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu",
        "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={self._folder.name}",
        "about:blank",
    ]
    self._process = os.posix_spawn(PATH, arguments, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, commands, 3),
        (os.POSIX_SPAWN_DUP2, replies, 4),
    ])
    os.close(commands)
    os.close(replies)
    self._ids, self._buffer, self._session = itertools.count(1), b"", None
    tabs = self.call("Target.getTargets")["targetInfos"]
    target = next(tab["targetId"] for tab in tabs if tab["type"] == "page")
    attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
    self._session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
      self.call(f"{domain}.enable")
    return self

  def __exit__(self, *error):
    os.close(self._to)
    os.kill(self._process, signal.SIGTERM)
    os.waitpid(self._process, 0)
    os.close(self._from)
    self._folder.cleanup()

  def call(self, method, **params):
    """The result of a DevTools command."""
    number = next(self._ids)
    message = {"id": number, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._to, json.dumps(message).encode() + b"\0")
    while True:
      reply = self._read()
      if reply.get("id") == number:
        assert "error" not in reply, reply
        return reply["result"]
      self._note(reply)

  def open(self, url, width=1100, height=900, dark=False, forced_colours=False):
    """Opens a page in a window of this size."""
    self.call(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
    )
    self.call("Emulation.setEmulatedMedia", features=[
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "forced-colors", "value": "active" if forced_colours else "none"},
    ])
    self.call("Page.navigate", url="about:blank")
    self.log.clear()
    self.urls.clear()
    self.call("Page.navigate", url=url)

  def run(self, script):
    """The JSON value of a JavaScript expression in the page, awaited."""
    result = self.call(
        "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
    )
    assert "exceptionDetails" not in result, result["exceptionDetails"]
    return result["result"].get("value")

  def wait(self, condition):
    """Waits until a JavaScript condition holds, and returns its value."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not (value := self.run(f"(() => {{ try {{ return {condition} }} catch {{}} }})()")):
      assert time.monotonic() < deadline, f"{condition} never held; {self.log}"
      time.sleep(0.05)
    return value

  def press(self, key, code=None, number=0, shift=False):
    """Presses a key, such as Tab (9) or ArrowRight (39)."""
    for kind in ("keyDown", "keyUp"):
      self.call(
          "Input.dispatchKeyEvent", type=kind, key=key, code=code or key,
          windowsVirtualKeyCode=number, modifiers=8 if shift else 0,
          **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}),
      )

  def drag(self, points, button="left"):
    """Moves the pressed mouse along points (x, y) of the window."""
    kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 2), "mouseReleased"]
    for kind, (x, y) in zip(kinds, points, strict=True):
      self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button,
                buttons={"left": 1, "right": 2}[button], clickCount=1)

  def touch(self, kind, points=()):
    """Fingers at points (x, y) of the window; kind is touchStart, touchMove or touchEnd."""
    self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[
        {"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)
    ])

  def choose_file(self, selector, path):
    """Gives a file to an <input type=file>."""
    root = self.call("DOM.getDocument")["root"]["nodeId"]
    node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
    self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

  def _read(self):
    while b"\0" not in self._buffer:
      content = os.read(self._from, 2**20)
      assert content, "Chromium has ended"
      self._buffer += content
    message, _, self._buffer = self._buffer.partition(b"\0")
    return json.loads(message)

  def _note(self, event):
    params = event.get("params", {})
    if event["method"] == "Runtime.consoleAPICalled":
      self.log.append(str(params["args"]))
    elif event["method"] == "Runtime.exceptionThrown":
      self.log.append(str(params["exceptionDetails"]))
    elif event["method"] == "Log.entryAdded":
      self.log.append(params["entry"]["text"])
    elif event["method"] == "Network.requestWillBeSent":
      self.urls.append(params["request"]["url"])
