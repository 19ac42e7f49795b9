"""A stream that gives its bytes in small pieces, as a pipe may."""

import io


class Dribble(io.BytesIO):
    """A stream that gives at most `step` bytes at a time, as a pipe may."""

    def __init__(self, data, step):
        super().__init__(data)
        self.step = step

    def read(self, size=-1):
        return super().read(min(size, self.step) if size >= 0 else self.step)
