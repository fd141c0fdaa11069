"""Draws the PNG logos in `kernelspec/` from `logo-svg.svg`, by Chromium. Run it after the SVG changes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

KERNELSPEC = Path(__file__).resolve().parent.parent / "kernelspec"
SIZES = (32, 64)


def main() -> int:
    """Write both files; exit code 1 if there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("scripts/logos.py needs Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    svg = (KERNELSPEC / "logo-svg.svg").read_text()
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for size in SIZES:
            page = browser.new_page(viewport={"width": size, "height": size})
            page.set_content(f"<style>body{{margin:0}}svg{{display:block;width:{size}px;height:{size}px}}</style>{svg}")
            page.screenshot(path=KERNELSPEC / f"logo-{size}x{size}.png", omit_background=True)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
