"""A file written whole or not at all: what every command that writes one does it with."""

from __future__ import annotations

import os
from errno import EACCES, ELOOP, ENOTDIR
from pathlib import Path

from accelsim.errors import Fault, InputError, Place


def write(path: Path, data: bytes) -> Path:
    """Write a file, and the folders that are missing; returns the path.

    The data goes beside the file's place and is renamed when it is on disk: whoever reads
    sees the old file or the new one, and of a failure, or of an interrupt, nothing is left.
    A link stays what it is: what it leads to is replaced.  What is no plain file (a pipe, a
    device) is written to.  Raises InputError where the file cannot be written.

    >>> import tempfile
    >>> write(Path(tempfile.mkdtemp()) / "new" / "a.txt", b"whole").read_bytes()
    b'whole'
    """
    try:
        _make(path.parent)
        if path.exists() and not path.is_file():
            with open(path, "wb") as stream:
                stream.write(data)
        else:
            place = Path(os.path.realpath(path))
            if place.is_symlink():
                raise OSError(ELOOP, os.strerror(ELOOP))
            _replace(place, data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        allowed = "a file in a folder that can be written to"
        raise InputError(
            [Fault(Place(str(path)), f"cannot be written: {reason}", allowed)]
        ) from None
    return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR)) from None


def _replace(place: Path, data: bytes) -> None:
    """Write beside the place and rename; a file that was there keeps its permissions."""
    there = place.exists()
    if there and not os.access(place, os.W_OK):
        raise PermissionError(EACCES, os.strerror(EACCES))
    beside = place.with_name(f".{os.urandom(8).hex()}.partial")
    try:
        with open(beside, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if there:
            beside.chmod(place.stat().st_mode & 0o7777)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
