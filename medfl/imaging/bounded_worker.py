"""The child process that reads files nobody vouches for; started by `medfl.imaging.bounded`.

Requests come as JSON lines on standard input, replies leave as JSON lines, voxels through a memory file that the
parent handed over. Nothing is pickled. Whatever the readers print goes nowhere, since it may quote a patient's data.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medfl.errors import ImageReadError
from medfl.imaging.dicom import SeriesInfo, read_series
from medfl.imaging.dicom_facts import header_from_json, header_to_json
from medfl.imaging.dicom_header import read_header
from medfl.imaging.read import read_image
from medfl.imaging.volume import Volume


@dataclass(frozen=True)
class Worker:
    """Answers requests one at a time.

    Attributes
    ----------
    voxels_fd : int
        Memory file for the voxels of a reply.
    seconds : int
        Processor time for each request.
    """

    voxels_fd: int
    seconds: int

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reply to one request."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + self.seconds + 1, resource.RLIM_INFINITY)
        )
        action: Callable[[dict[str, Any]], dict[str, Any]] = {
            "image": self._image,
            "header": self._header,
            "series": self._series,
        }[request["read"]]
        try:
            return action(request)
        except ImageReadError as error:
            return {"reason": error.reason, "message": str(error)}
        except MemoryError:
            return {"reason": "memory", "message": "Reading the file takes more memory than it may."}
        except Exception as error:
            return {"reason": "crashed", "message": f"The reader failed ({type(error).__name__})."}

    def _image(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._handed_over(read_image(Path(request["path"]), max_voxels=request["max_voxels"]))

    def _header(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"header": header_to_json(read_header(Path(request["path"])))}

    def _series(self, request: dict[str, Any]) -> dict[str, Any]:
        files = tuple(header_from_json(value) for value in request["files"])
        return self._handed_over(read_series(SeriesInfo(files[0].identity, files), max_voxels=request["max_voxels"]))

    def _handed_over(self, volume: Volume) -> dict[str, Any]:
        """Put the voxels into the memory file and return the rest."""
        content = np.ascontiguousarray(volume.array).reshape(-1).view(np.uint8).data
        os.ftruncate(self.voxels_fd, 0)
        done = 0
        while done < len(content):
            done += os.pwrite(self.voxels_fd, content[done : done + (1 << 26)], done)
        return {
            "shape": volume.array.shape,
            "dtype": volume.array.dtype.str,
            "affine": volume.affine.tolist(),
            "stored_axes": volume.stored_axes,
        }


def main() -> None:
    """Answer requests until standard input ends."""
    voxels_fd, memory_bytes, seconds = (int(argument) for argument in sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, memory_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    worker = Worker(voxels_fd, seconds)
    _send(replies, {"ready": True})
    for line in requests:
        _send(replies, worker.answer(json.loads(line)))


def _send(replies: BinaryIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply).encode("ascii") + b"\n")
    replies.flush()


if __name__ == "__main__":
    main()
