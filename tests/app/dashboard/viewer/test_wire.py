import json
import zlib

import numpy as np
import pytest

from app.dashboard.viewer.wire import body_of, message_of


def taken_apart(message: bytes) -> tuple[dict, bytes]:  # type: ignore[type-arg]
    length = int.from_bytes(message[:4], "little")
    start = -(-(4 + length) // 8) * 8
    return json.loads(message[4 : 4 + length]), message[start:]


def test_image_and_masks_come_out_as_they_went_in() -> None:
    image = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)
    mask = (image > 3).astype(np.uint8)
    header, content = taken_apart(message_of({"kind": "volume"}, body_of(image, {"model": mask})))
    assert header["kind"] == "volume"
    parts = {name: content[part["offset"] : part["offset"] + part["length"]] for name, part in header["parts"].items()}
    assert np.array_equal(np.frombuffer(parts["image"], "<i2").reshape(image.shape), image)
    assert zlib.decompress(parts["model"]) == mask.tobytes()
    assert header["parts"]["image"]["type"] == "i16"


def test_every_part_begins_at_a_multiple_of_eight() -> None:
    body = body_of(np.zeros((1, 1, 3), np.uint8), {"model": np.zeros((1, 1, 3), np.uint8)})
    assert all(part["offset"] % 8 == 0 for part in body.parts.values())
    message = message_of({"words": "ü" * 5}, body)
    assert (len(message) - len(body.content)) % 8 == 0


def test_the_digest_changes_with_any_voxel_and_only_then() -> None:
    image = np.zeros((2, 2, 2), np.float32)
    other = image.copy()
    other[1, 1, 1] = 1
    assert body_of(image, {}).digest == body_of(image.copy(), {}).digest
    assert body_of(image, {}).digest != body_of(other, {}).digest
    mask = np.zeros((2, 2, 2), np.uint8)
    assert body_of(image, {"model": mask}).digest != body_of(image, {"reference": mask}).digest


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        message_of({"low": float("nan")}, body_of(np.zeros((1, 1, 1), np.uint8), {}))
