"""Debian's headless Chromium through Playwright: pages opened from files, keys pressed, everything it says recorded."""

import shutil

from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """One browser with one page; `close` ends it."""

    def __init__(self):
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        self._page = self._browser.new_page()
        self.complaints, self.requests = [], []
        self._page.on("console", lambda message: self.complaints.append(("console", message.text)))
        self._page.on("pageerror", lambda error: self.complaints.append(("error", str(error))))
        self._page.on("dialog", self._dialog)
        self._page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path, *, width=1200):
        """Load a file in a window so wide; `complaints` and `requests` (but for `data:`) begin anew."""
        self._page.set_viewport_size({"width": width, "height": 900})
        self._page.goto("about:blank")
        self.complaints.clear()
        self.requests.clear()
        self._page.goto(path.as_uri(), wait_until="load")
        self.run("document.fonts.ready.then(() => 0)")
        self.requests[:] = [url for url in self.requests if not url.startswith("data:")]

    def paper(self, on):
        """Show pages as they would be printed, or on the screen again."""
        self._page.emulate_media(media="print" if on else "screen")

    def run(self, script):
        """The value of an expression in the page."""
        return self._page.evaluate(script)

    def press(self, key):
        """A key, down and up."""
        self._page.keyboard.press(key)

    def close(self):
        """End the browser."""
        self._browser.close()
        self._playwright.stop()

    def _dialog(self, dialog):
        self.complaints.append(("dialog", dialog.message))
        dialog.dismiss()
