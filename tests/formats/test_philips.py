"""The Philips reader on documents written out by hand and compressed by an encoder here; sierraecg decodes them too."""

import base64
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sierraecg.xli import xli_decode
from written_files import LEADS, counts, limb_residuals, philips_file, philips_xli, xli_chunk

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.philips import read_philips
from hubert_ecg.formats.xli import decode_xli

UNCOMPRESSED = 'dataencoding="Base64" compressflag="False" compressmethod="XLI"'


def read(folder: Path, content: bytes) -> Recording:
    path = folder / "r.xml"
    path.write_bytes(content)
    return read_philips(str(path))


def reason(folder: Path, content: bytes) -> str:
    with pytest.raises(RecordingError) as caught:
        read(folder, content)
    return caught.value.reason


def consistent_counts(num_samples: int) -> np.ndarray:
    """[12, time] int16 that keep Einthoven's and Goldberger's relations but for the rounding of the aV leads."""
    stored = counts(12, num_samples).astype(np.int64)
    i, ii = stored[:2]
    stored[2:6] = ii - i, -(i + ii) // 2, (2 * i - ii) // 2, (2 * ii - i) // 2
    return stored.astype(np.int16)


@pytest.mark.parametrize("version", ["1.03", "1.04", "1.04.02"])
def test_compressed_samples_read_back_sample_by_sample(tmp_path: Path, version: str) -> None:
    stored = consistent_counts(3000)
    recording = read(tmp_path, philips_file(philips_xli(stored), 3000, version=version))
    np.testing.assert_allclose(recording.samples, stored * 0.005, atol=1e-6)
    assert (recording.lead_names, recording.sampling_rate_hz, recording.record_id) == (LEADS, 500.0, "r")
    assert (recording.patient_id, recording.age_years, recording.sex) == ("P-17", 63.0, "female")
    assert "Doe" not in repr(recording)


def test_uncompressed_and_plain_samples_read_back(tmp_path: Path) -> None:
    stored = counts(12)
    encoded = base64.b64encode(stored.astype("<i2").tobytes()).decode()
    plain = " ".join(str(value) for value in stored.ravel())
    for text, attributes in ((encoded, UNCOMPRESSED), (plain, 'dataencoding="Plain"')):
        recording = read(tmp_path, philips_file(text, 200, attributes=attributes))
        np.testing.assert_allclose(recording.samples, stored * 0.005, atol=1e-6)


def test_unsigned_samples_lie_around_their_offset(tmp_path: Path) -> None:
    stored = counts(12)
    encoded = base64.b64encode((stored.astype(np.int64) + 32768).astype("<u2").tobytes()).decode()
    content = philips_file(encoded, 200, attributes=UNCOMPRESSED).replace(b"<signaloffset>0", b"<signaloffset>32768")
    recording = read(tmp_path, content.replace(b"<signalsigned>True", b"<signalsigned>False"))
    np.testing.assert_allclose(recording.samples, stored * 0.005, atol=1e-5)


def test_settings_of_the_waveforms_come_before_those_of_the_signal(tmp_path: Path) -> None:
    content = philips_file(
        philips_xli(consistent_counts(200)),
        100,
        attributes='dataencoding="Base64" compression="XLI" resolution="2.5" samplespersecond="1000"',
    )
    recording = read(tmp_path, content)
    np.testing.assert_allclose(recording.samples, consistent_counts(200) * 0.0025, atol=1e-6)
    assert recording.sampling_rate_hz == 1000.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), num_samples=st.integers(2, 400))
def test_xli_decodes_as_sierraecg_does(data: st.DataObject, num_samples: int) -> None:
    seed, size = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from([1, 3, 90]))
    # A walk whose second differences fit the 16 bits that XLI has for them.
    steps = np.random.default_rng(seed).integers(-size, size + 1, size=(3, num_samples))
    rows = np.cumsum(steps, axis=1)
    content = b"".join(xli_chunk(row) for row in rows)
    decoded = decode_xli(content, 3, num_samples, "test")
    np.testing.assert_array_equal(decoded, rows)
    np.testing.assert_array_equal(decoded, np.stack(xli_decode(content, [])))


def test_sixteen_channels_are_read_as_far_as_they_are_labelled(tmp_path: Path) -> None:
    stored = consistent_counts(200)
    text = base64.b64encode(
        b"".join(xli_chunk(row) for row in [*limb_residuals(stored), *np.zeros((4, 200), np.int64)])
    ).decode()
    np.testing.assert_allclose(read(tmp_path, philips_file(text, 200)).samples, stored * 0.005, atol=1e-6)


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("<age><dateofbirth>1956-03-01</dateofbirth></age>", 64.0),
        ("<age><dateofbirth>1956-03-02</dateofbirth></age>", 63.0),
        ('<age defaultage="50"></age>', None),
        ("", None),
    ],
)
def test_age_is_given_or_reckoned(tmp_path: Path, age: str, years: float | None) -> None:
    assert read(tmp_path, philips_file(philips_xli(consistent_counts(200)), 200, age=age)).age_years == years


def test_damaged_lengths_end_at_once() -> None:
    chunk = xli_chunk(np.arange(50))
    # A negative length makes sierraecg 0.4.0 go round for ever; a long one makes it read what is not there.
    for size in (-8, -(2**31), 2**31 - 1, len(chunk)):
        with pytest.raises(RecordingError, match="ends after the file") as caught:
            decode_xli(struct.pack("<i", size) + chunk[4:], 1, 50, "test")
        assert caught.value.reason == "truncated"


def test_a_small_chunk_cannot_fill_the_memory() -> None:
    # Codes that grow by one byte each: 800 bytes of them unpack to 200 times as much.
    codes = [65, *range(256, 1023)] * 40
    bits = "".join(f"{code:010b}" for code in codes)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    content = struct.pack("<ihh", len(packed), 0, 0) + packed
    with pytest.raises(RecordingError, match="unpacks to more than") as caught:
        decode_xli(content, 1, 1000, "test")
    assert caught.value.reason == "unreadable"
    with pytest.raises(RecordingError, match="cannot hold"):
        decode_xli(content, 1, 10**12, "test")


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    stored = consistent_counts(200)
    good = philips_file(philips_xli(stored), 200)
    encoded = base64.b64encode(stored.astype("<i2").tobytes()).decode()

    def changed(old: bytes, new: bytes) -> str:
        assert old in good
        return reason(tmp_path, good.replace(old, new, 1))

    assert read(tmp_path, good).samples.shape == (12, 200)
    assert reason(tmp_path, good[:-50]) == "unreadable"
    assert reason(tmp_path, b"<RestingECG/>") == "unknown format"
    assert changed(b"PhilipsECG", b"Television") == "unknown format"
    assert changed(b"<documentversion>1.04", b"<documentversion>2.0") == "unknown format"
    assert changed(b"parsedwaveforms ", b"waves ") == "unreadable"
    assert changed(b'durationperchannel="400"', b'durationperchannel="402"') == "truncated"
    assert changed(b'durationperchannel="400"', b'durationperchannel="4e15"') == "truncated"
    assert changed(b'durationperchannel="400"', b'durationperchannel="0"') == "unreadable"
    assert changed(b'compression="XLI"', b'compression="ZIP"') == "unreadable"
    assert changed(b'dataencoding="Base64"', b'dataencoding="Base85"') == "unreadable"
    assert changed(b"<bitspersample>16", b"<bitspersample>24") == "unreadable"
    assert changed(b"<samplingrate>500", b"<samplingrate>0") == "bad sampling rate"
    assert changed(b"<samplingrate>500", b"<samplingrate>inf") == "bad sampling rate"
    assert changed(b"<resolution>5", b"<resolution>") == "unknown unit"
    unlabelled = good.replace(b'leadlabels="', b'leadlabels="" was="')
    assert read(tmp_path, unlabelled).lead_names == LEADS
    assert reason(tmp_path, unlabelled.replace(b"STD-12", b"MASON-LIKAR-7")) == "missing leads"
    assert reason(tmp_path, philips_file("!" + encoded, 200, attributes=UNCOMPRESSED)) == "unreadable"
    assert reason(tmp_path, philips_file(encoded, 201, attributes=UNCOMPRESSED)) == "truncated"
    assert reason(tmp_path, philips_file("1 2 x", 1, attributes='dataencoding="Plain"')) == "unreadable"
    with pytest.raises(RecordingError, match="no such file"):
        read_philips(str(tmp_path / "absent.xml"))
