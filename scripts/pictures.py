"""Makes the README's pictures from real runs: a terminal's progress as SVG, TensorBoard and a report as PNG."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LARGEST = 150_000
"""The largest size of a picture in bytes."""


def main(images: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("error: chromium is needed: apt-get install chromium")
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_table(folder / "adult.csv")
        progress(folder, images / "progress.svg")
        for name, more in (
            ("linear", ["--hidden", ""]),
            ("wide", ["--hidden", "64"]),
            ("dropout", ["--dropout", "0.1"]),
        ):
            trainer(folder, "run", "logreg", *table(20), "--no-plugin", "progress", "--name", name, *more)
        trainer(folder, "report", "linear")
        pictures(browser, folder, images)
    for picture in sorted(images.iterdir()):
        size = picture.stat().st_size
        print(f"{picture.name}: {size} bytes")
        if size > LARGEST:
            sys.exit(f"error: {picture.name} is larger than {LARGEST} bytes")


def make_table(path: Path) -> None:
    """A table of two classes that age, hours, education and sector predict, with noise."""
    import numpy as np

    generator = np.random.default_rng(0)
    lines = ["age,hours,education,sector,income"]
    for _ in range(6000):
        age, hours = generator.integers(18, 80), generator.normal(40, 10)
        education, sector = (
            generator.choice(["school", "college", "doctorate"]),
            generator.choice(["public", "private"]),
        )
        score = 0.05 * age + 0.06 * hours + {"school": -1, "college": 0, "doctorate": 1.5}[education] - 4.6
        lines.append(f"{age},{hours:.1f},{education},{sector},{'>50K' if score + generator.normal() > 0 else '<=50K'}")
    path.write_text("\n".join(lines))


def table(epochs: int) -> list[str]:
    return ["--data", "adult.csv", "--label", "income", "--epochs", str(epochs)]


def trainer(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def progress(folder: Path, path: Path) -> None:
    """The screen of a terminal in the middle of a run, drawn by rich."""
    import pexpect
    from rich.console import Console
    from rich.text import Text

    words = ["-m", "trainer", "run", "logreg", *table(12), "--name", "shown"]
    terminal = pexpect.spawn(
        sys.executable, words, cwd=str(folder), dimensions=(40, 110), encoding="utf-8", timeout=120
    )
    seen = io.StringIO()
    terminal.logfile_read = seen
    terminal.expect("epoch  8/12.*?batches.*?batches")
    terminal.close(force=True)
    lines = screen(seen.getvalue())
    console = Console(record=True, width=108, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text("$ trainer run logreg --data adult.csv --label income --epochs 12", style="bold"))
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    shutil.rmtree(folder / "runs" / "logreg" / "shown", ignore_errors=True)
    # A font that every system has, instead of one from the network.
    svg = console.export_svg(title="trainer run", unique_id="progress")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    path.write_text(svg, encoding="utf-8")


def screen(output: str) -> list[str]:
    """The lines that remain on the screen after rich has moved up and erased."""
    lines, row = [""], 0
    for part in re.findall(
        r"\x1b\[\d*[ABK]|\x1b\[2K|\x1b\[\?25[hl]|\r|\n|(?:(?!\x1b\[\d*[ABK]|\x1b\[\?25)[^\r\n])+", output
    ):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r" or part.startswith("\x1b[?"):
            continue
        elif part.endswith("A") and part.startswith("\x1b["):
            row = max(0, row - int(part[2:-1] or 1))
        elif part.endswith("K") and part.startswith("\x1b["):
            lines[row] = ""
        else:
            lines[row] += part
    return [line for line in lines if line.strip()]


def pictures(browser: str, folder: Path, images: Path) -> None:
    from playwright.sync_api import sync_playwright

    board = subprocess.Popen(
        [sys.executable, "-m", "trainer", "board", "runs/logreg", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert board.stdout is not None
        address = re.search(r"http://\S+", board.stdout.readline())
        assert address is not None
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1200, "height": 820})
            page.goto((folder / "runs" / "logreg" / "linear" / "report.html").as_uri())
            page.locator("#split-2").evaluate("element => element.scrollIntoView()")
            page.screenshot(path=images / "report.png")
            page.goto(
                f"{address[0]}?darkMode=false&smoothing=0&tagFilter=%5E(loss%2Fvalidation%7Cvalidation%2F(accuracy%7Cf1%7Croc-auc))%24#timeseries"
            )
            page.wait_for_selector("scalar-card svg", timeout=60_000)
            page.get_by_role("button", name="close").first.click()
            page.wait_for_timeout(4000)
            page.screenshot(path=images / "board.png")
            chromium.close()
    finally:
        board.terminate()
        board.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
