"""Work shared by processes and machines that have nothing in common but a folder.

    claims = Claims(folder)
    claim = claims.take("cell")  # None: it is done, or somebody else is at it
    claim.beat()                 # every few seconds while working in claim.path
    claim.finish("run")          # claim.path / "run" becomes folder / "cell"

Who works on `cell` works in the folder `cell.1`. Making that folder is the claim, and renaming it
to `cell.2` takes a dead claim over: both succeed for one process only, also on NFS. Whoever was
merely paused finds its folder gone, so it cannot write into the work of its successor.

No clocks are compared: a claim is dead when its sign of life did not change over several looks.
"""

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from pathlib import Path

# Looks that a claim may stand still for. Looks are counted, not seconds: one who was paused himself
# has not looked.
LOOKS = 10
# The file whose time of change is the sign of life; without it, a claim is free to be taken over.
HEARTBEAT = "heartbeat"


class LostError(Exception):
    """Another process has taken the claim over."""


class Claim:
    """A piece of work that is this process's own for as long as it beats."""

    def __init__(self, folder: Path, name: str, number: int):
        self.folder, self.name, self.number = folder, name, number
        self.path = folder / f"{name}.{number}"

    def beat(self) -> None:
        """Gives a sign of life.

        Raises:
            LostError: it comes too late, the work is another process's now.
        """
        try:
            os.utime(self.path / HEARTBEAT)
        except FileNotFoundError:
            raise LostError(f"{self.path} was taken over") from None

    def release(self) -> None:
        """Leaves unfinished work to whoever comes next."""
        (self.path / HEARTBEAT).unlink(missing_ok=True)

    def finish(self, result: str) -> None:
        """Makes a folder in `path` the finished work.

        Raises:
            LostError: the work is another process's now.
        """
        self.beat()
        try:
            os.rename(self.path / result, self.folder / self.name)
        except OSError as error:
            if not (self.folder / self.name).exists():
                self.beat()  # Perhaps it was taken over just now.
                raise
            raise LostError(f"{self.name} was finished by another process") from error
        shutil.rmtree(self.path, ignore_errors=True)


class Claims:
    """Takes claims in a folder, and sees which of the others' are dead.

    Attributes:
        dead_after: seconds without a sign of life after which a claim is taken over.
    """

    def __init__(self, folder: Path, dead_after: float = 120.0):
        self.folder, self.dead_after = folder, dead_after
        self._looks = {}  # (name, number) -> (sign of life, looks that found it so, last look)

    def take(self, name: str) -> Claim | None:
        """A claim on this piece of work; None if it is done or another process is at it."""
        if self.is_done(name):
            return None
        number = self._newest(name)
        if number and not self._is_dead(name, number):
            return None
        claim = Claim(self.folder, name, number + 1)
        try:
            # A claim has its sign of life from the moment it can be seen; without one it is dead.
            if number:
                before = self.folder / f"{name}.{number}"
                (before / HEARTBEAT).touch()
                os.rename(before, claim.path)
            else:
                made = self.folder / f".claim.{uuid.uuid4().hex[:8]}"
                made.mkdir()
                (made / HEARTBEAT).touch()
                try:
                    os.rename(made, claim.path)
                except OSError:
                    shutil.rmtree(made)
                    raise
            # A slow process may make `cell.1` when others have come and gone.
            if self.is_done(name) or self._newest(name) != claim.number:
                (claim.path / HEARTBEAT).unlink()
                claim.path.rmdir()
                return None
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                return None  # Another process was faster.
            raise
        return claim

    def is_done(self, name: str) -> bool:
        """Whether this piece of work is finished."""
        return (self.folder / name).exists()

    def is_running(self, name: str) -> bool:
        """Whether a process, as far as one can see, is at this piece of work."""
        number = self._newest(name)
        return bool(number) and not self.is_done(name) and not self._is_dead(name, number)

    def path(self, name: str) -> Path | None:
        """Where this piece of work is being done or was left; None if it was never begun."""
        number = self._newest(name)
        return self.folder / f"{name}.{number}" if number else None

    def _newest(self, name: str) -> int:
        """The highest number of a claim on `name`, 0 if there is none."""
        pattern = re.compile(re.escape(name) + r"\.([1-9][0-9]*)")
        matches = map(pattern.fullmatch, os.listdir(self.folder))
        return max((int(match[1]) for match in matches if match), default=0)

    def _is_dead(self, name: str, number: int) -> bool:
        sign = None
        with contextlib.suppress(FileNotFoundError):
            sign = os.stat(self.folder / f"{name}.{number}" / HEARTBEAT).st_mtime_ns
        if sign is None:
            return True
        now = time.monotonic()
        before, count, last = self._looks.get((name, number), (None, 0, 0.0))
        if sign != before:
            self._looks[name, number] = (sign, 0, now)
            return False
        if now - last >= self.dead_after / LOOKS:
            count += 1
            self._looks[name, number] = (sign, count, now)
        return count >= LOOKS
