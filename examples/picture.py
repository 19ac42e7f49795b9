"""Write examples/summary.svg: what a terminal shows at the end of the README's first command (make picture)."""

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parent
COLUMNS = 100
SCORE = ["batch", "reviews.csv", "-o", "scored.csv", "--gold-stars", "stars"]
STARS = ["--stars", "1-2:NEGATIVE,4-5:POSITIVE"]
# What moves the cursor or erases; colours, which end with m, are kept.
CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]")
# A page that shows the picture may not load fonts from the network.
FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def run_in_terminal(command: list[str], folder: str) -> str:
    """Return all that a command writes to a terminal of 100 columns on its stderr."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # on Linux the end of a terminal is an error
                break
            if not part:
                break
            written += part
    os.close(ours)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    return written.decode()


def last_screen(written: str) -> str:
    """Return what is left on the screen once the bar, which erases itself, is gone."""
    after_bar = written.rpartition("\x1b[?25h")[2]  # the bar shows the cursor again when it ends
    lines = CURSOR.sub("", after_bar).replace("\r", "").splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip())


def main() -> None:
    """Run the command and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "reviews.csv").write_bytes((FOLDER / "reviews.csv").read_bytes())
        command = [sys.executable, "-m", "batchsent", *SCORE, *STARS]
        shown = last_screen(run_in_terminal(command, folder))
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ batchsent " + " ".join([*SCORE, *STARS]), style="bold"))
    console.print(Text.from_ansi(shown))
    picture = console.export_svg(title="batchsent", unique_id="batchsent")
    (FOLDER / "summary.svg").write_text(FONT_FACES.sub("", picture))


if __name__ == "__main__":
    main()
