"""A hub cannot ask more often than the plan says, whatever is restarted in between."""

from pathlib import Path

import pytest

from medfl.errors import FederationError
from medfl.federation.inbound import RequestError
from medfl.federation.request_counts import RequestCounts


def test_the_same_round_is_answered_so_often_and_not_once_more_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        RequestCounts(tmp_path / "plan").take("train", 1, most=3)
    with pytest.raises(RequestError) as caught:
        RequestCounts(tmp_path / "plan").take("train", 1, most=3)
    assert caught.value.reason == "message_count"
    RequestCounts(tmp_path / "plan").take("train", 2, most=3)
    RequestCounts(tmp_path / "plan").take("evaluate", 1, most=3)


def test_replies_and_bytes_are_counted_before_they_leave(tmp_path: Path) -> None:
    counts = RequestCounts(tmp_path)
    counts.send("train", times=2, nbytes=10)
    counts.send("train", times=2, nbytes=5)
    with pytest.raises(RequestError) as caught:
        RequestCounts(tmp_path).send("train", times=2, nbytes=1)
    assert caught.value.reason == "times"
    assert RequestCounts(tmp_path).bytes_out == 15


@pytest.mark.parametrize("content", ["", "{", '{"asked": {}, "more": 1}', '{"asked": {"train 1": "many"}}'])
def test_counts_that_cannot_be_read_stop_everything(tmp_path: Path, content: str) -> None:
    (tmp_path / "counts.json").write_text(content)
    with pytest.raises(FederationError, match="cannot be read"):
        RequestCounts(tmp_path)
