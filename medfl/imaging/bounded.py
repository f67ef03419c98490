"""Reading files nobody vouches for, in a child process with a limit on memory and time."""

import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medfl
from medfl.errors import ConfigError, ImageReadError
from medfl.imaging.dicom import SeriesInfo
from medfl.imaging.dicom_facts import DicomHeader, header_from_json, header_to_json
from medfl.imaging.nifti import MAX_VOXELS
from medfl.imaging.volume import Volume

_START_SECONDS = 60.0
_LONGEST_REPLY = 1 << 26
_REASON = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True)
class ReadLimits:
    """What reading one file may cost.

    Attributes
    ----------
    memory_bytes : int
        Address space of the child process, its libraries included (about 0.5 GiB).
    seconds : int
        Time for one request, both on the clock and of the processor.
    max_voxels : int
        Voxels of all channels together.
    """

    memory_bytes: int = 2 * 2**30
    seconds: int = 60
    max_voxels: int = MAX_VOXELS


class BoundedReader:
    """Reads images in a child process that is kept warm and replaced when it dies; use it as a context manager.

    One reader serves one thread.

    Parameters
    ----------
    limits : ReadLimits
    """

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self._limits = limits or ReadLimits()
        self._child: _Child | None = None

    def __enter__(self) -> "BoundedReader":
        """Return the reader; the child starts with the first request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the child."""
        self.close()

    def read(self, path: Path) -> Volume:
        """Read one NIfTI, PNG, JPEG or DICOM file, told apart by its content.

        Raises
        ------
        ImageReadError
            As `medfl.imaging.read.read_image`, or with reason ``"timeout"``, ``"memory"`` or ``"crashed"``.
        ConfigError
            If no reading process can be started at all; so for the other methods.
        """
        return self._volume({"read": "image", "path": str(path), "max_voxels": self._limits.max_voxels})

    def header(self, path: Path) -> DicomHeader:
        """Read the header of a DICOM image, for `medfl.imaging.dicom_folder.find_series`.

        Raises
        ------
        ImageReadError
            As `medfl.imaging.dicom_header.read_header`, or with reason ``"timeout"``, ``"memory"`` or ``"crashed"``.
        """
        reply, _ = self._ask({"read": "header", "path": str(path)})
        try:
            return header_from_json(reply["header"])
        except (KeyError, TypeError, ValueError):
            raise self._untrustworthy() from None

    def read_series(self, series: SeriesInfo) -> Volume:
        """Read the pixels of a DICOM series.

        Raises
        ------
        ImageReadError
            As `medfl.imaging.dicom.read_series`, or with reason ``"timeout"``, ``"memory"`` or ``"crashed"``.
        """
        files = [header_to_json(file) for file in series.files]
        return self._volume({"read": "series", "files": files, "max_voxels": self._limits.max_voxels})

    def close(self) -> None:
        """End the child; the next request starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _volume(self, request: dict[str, Any]) -> Volume:
        """Ask for an image and build it from the reply, of which nothing is taken on trust."""
        reply, child = self._ask(request)
        try:
            shape = tuple(int(length) for length in reply["shape"])
            affine = np.array(reply["affine"], dtype=np.float64)
            x, y, z = ((int(axis), int(sign)) for axis, sign in reply["stored_axes"])
            return Volume(child.voxels(shape, np.dtype(str(reply["dtype"]))), affine, (x, y, z))
        except (KeyError, TypeError, ValueError):
            raise self._untrustworthy() from None

    def _ask(self, request: dict[str, Any]) -> "tuple[dict[str, Any], _Child]":
        """Send a request and return the reply with the child that gave it."""
        if self._child is None:
            self._child = _Child(self._limits)
        child = self._child
        try:
            reply = child.ask(request)
        except ImageReadError:
            self.close()
            raise
        if "reason" in reply:
            reason, message = str(reply["reason"]), str(reply.get("message", ""))[:300]
            if reason in ("memory", "crashed"):
                self.close()
            raise ImageReadError(reason if _REASON.fullmatch(reason) else "crashed", message)
        return reply, child

    def _untrustworthy(self) -> ImageReadError:
        """Give up a child whose reply makes no sense."""
        self.close()
        return ImageReadError("crashed", "The reading process gave a reply that makes no sense; it was replaced.")


class _Child:
    """One running child process."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._voxels_fd = os.memfd_create("voxels", os.MFD_CLOEXEC)
        module_root = str(Path(medfl.__file__).parents[1])
        arguments = (self._voxels_fd, limits.memory_bytes, limits.seconds)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "medfl.imaging.bounded_worker", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._voxels_fd,),
            bufsize=0,
            env={
                "PYTHONPATH": os.pathsep.join((module_root, *filter(None, (os.environ.get("PYTHONPATH"),)))),
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )
        try:
            self._reply_before(time.monotonic() + _START_SECONDS)
        except ImageReadError as error:  # no file is to blame, and every other file would fail the same way
            self.end()
            raise ConfigError(
                "The process that reads images must be able to start with the Python and the packages of this one "
                f"in {limits.memory_bytes >> 20} MiB; it was not. Install medfl's dependencies where this Python finds "
                "them without help, and see that enough memory is left."
            ) from error

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for the reply."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
        except OSError:
            raise self._failure() from None
        return self._reply_before(time.monotonic() + self._limits.seconds)

    def voxels(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[np.generic]:
        """Copy the voxels of the last reply out of the memory file.

        Raises
        ------
        ValueError
            If they are not what the reply announced.
        """
        n_bytes = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "iuf" or min(shape) < 1 or os.fstat(self._voxels_fd).st_size != n_bytes:
            raise ValueError("the voxels do not fit their description")
        array = np.empty(shape, dtype)
        target = array.reshape(-1).view(np.uint8).data
        done = 0
        while done < n_bytes:
            n_read = os.preadv(self._voxels_fd, [target[done:]], done)
            if not n_read:
                raise ValueError("the voxels end early")
            done += n_read
        os.ftruncate(self._voxels_fd, 0)
        return array

    def end(self) -> None:
        """Stop the process and release everything."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        os.close(self._voxels_fd)

    def _reply_before(self, deadline: float) -> dict[str, Any]:
        """Wait for one line of JSON."""
        assert self._process.stdout is not None
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ImageReadError(
                        "timeout", f"Reading must take at most {self._limits.seconds} s; it took more."
                    )
                piece = os.read(self._process.stdout.fileno(), 1 << 20)
                if not piece or len(received) > _LONGEST_REPLY:
                    raise self._failure()
                received += piece
        try:
            reply = json.loads(received)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise ImageReadError("crashed", "The reading process gave a reply that makes no sense; it was replaced.")
        return reply

    def _failure(self) -> ImageReadError:
        """Say why the process has gone."""
        self._process.kill()
        code = self._process.wait()
        if -code == signal.SIGXCPU:
            return self._timeout()
        return ImageReadError("crashed", "The process that read the file died; the file is damaged or hostile.")

    def _timeout(self) -> ImageReadError:
        return ImageReadError("timeout", f"Reading must take at most {self._limits.seconds} s; it took more.")
