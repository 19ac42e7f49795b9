"""A reporter that remembers what was said, and may send a signal."""

import os

from batchsent.reporting import Reporter


class Listener(Reporter):
    """Remembers what was said; sends `number` to this process once `rows` rows are trained."""

    def __init__(self, number=None, rows=0):
        self.said, self.warned, self.number, self.rows = [], [], number, rows

    def notice(self, text, **facts):
        self.said.append(text)

    def warning(self, text, **facts):
        self.warned.append(text)

    def progress(self, rows, total_rows, **_):
        if self.number is not None and rows >= self.rows:
            number, self.number = self.number, None
            os.kill(os.getpid(), number)
