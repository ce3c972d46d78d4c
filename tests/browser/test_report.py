"""The report in headless Chromium: nothing on the console, every picture drawn, it fits a phone.

Run with ``make test-browser``; needs Debian's ``chromium`` (or Chrome) on the path.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

#: Written into a copy of the page: counts pictures that are drawn and what sticks out sideways.
PROBE = """
<script>addEventListener("load", () => {
  const images = [...document.images];
  const drawn = images.filter((i) => i.complete && i.naturalWidth > 0).length;
  const out = document.documentElement.scrollWidth - innerWidth;
  document.body.dataset.probe = `drawn ${drawn} of ${images.length}, out ${Math.max(0, out)}`;
});</script>
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.fail("no Chromium on the path: install the package chromium")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from accelsim.explore.report import report
    from accelsim.report.page import page

    found = report(["unfused", "flat", "fusemax"], ["BERT"], ["1K", "64K"])
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(found, "FuseMax").replace("</body>", PROBE + "</body>"))
    return path


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_the_page_opens_clean(
    chromium: str, written: Path, tmp_path: Path, width: int, scheme: int
) -> None:
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", f"--user-data-dir={tmp_path}", f"--window-size={width},900"),
        *(f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", written.as_uri()),
    ]
    run = subprocess.run([chromium, *flags], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "CONSOLE" not in run.stderr
    probe = re.search(r'data-probe="drawn (\d+) of (\d+), out (\d+)"', run.stdout)
    assert probe is not None
    drawn, every, out = map(int, probe.groups())
    # speedup and front; three rooflines and schedules; two of passes and of slopes; figures and
    # errors of two validations; times and errors of a GPU, three widths of heads; systems
    assert drawn == every == 2 + 3 + 3 + 2 + 2 + 2 * 2 + 2 + 3 + 1
    assert out == 0
