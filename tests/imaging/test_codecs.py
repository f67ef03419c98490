import pytest
from pydicom.pixels.decoders import JPEG2000LosslessDecoder
from pydicom.uid import JPEG2000Lossless

from medfl.imaging.codecs import missing_codecs


def test_an_installation_decodes_everything_that_medfl_takes() -> None:
    assert missing_codecs() == ()


def test_a_picture_that_no_plugin_decodes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    assert missing_codecs() == (JPEG2000Lossless.name,)
