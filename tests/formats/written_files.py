"""Small valid files, written out by hand after each format's standard; no library of the format takes part."""

import base64
import struct

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
EIGHT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
SCP_NUMBERS = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def counts(num_leads: int, num_samples: int = 200, seed: int = 3) -> np.ndarray:
    """[lead, time] int16: a slow wave with spikes and noise, such as a converter gives."""
    time = np.arange(num_samples)
    wave = 300 * np.sin(2 * np.pi * time / 90)[None] * np.linspace(-1, 1, num_leads)[:, None]
    noise = np.random.default_rng(seed).integers(-20, 21, size=(num_leads, num_samples))
    return (wave + noise + 800 * (time % 70 == 40)).astype(np.int16)


# DICOM PS3.5, explicit VR; every value padded to an even length, sequences and items of explicit length.


def dicom_element(group: int, element: int, vr: str, value: bytes, order: str = "<") -> bytes:
    padding = b"" if len(value) % 2 == 0 else (b"\0" if vr in ("OB", "OW", "UI") else b" ")
    value += padding
    head = struct.pack(order + "HH", group, element) + vr.encode()
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + b"\0\0" + struct.pack(order + "I", len(value)) + value
    return head + struct.pack(order + "H", len(value)) + value


def dicom_sequence(group: int, element: int, items: list[bytes], order: str = "<") -> bytes:
    packed = b"".join(struct.pack(order + "HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    return dicom_element(group, element, "SQ", packed, order)


def dicom_code(group: int, element: int, value: str, meaning: str = "", order: str = "<") -> bytes:
    item = dicom_element(0x0008, 0x0100, "SH", value.encode(), order)
    item += dicom_element(0x0008, 0x0104, "LO", meaning.encode(), order)
    return dicom_sequence(group, element, [item], order)


def dicom_channel(
    source: tuple[str, str],
    *,
    unit: str | None = "uV",
    sensitivity: str | None = "2.5",
    correction: str = "1",
    baseline: str = "0",
    extra: bytes = b"",
    order: str = "<",
) -> bytes:
    """`source` is the code and the meaning of the channel's source."""
    item = dicom_code(0x003A, 0x0208, *source, order=order)
    if sensitivity is not None:
        item += dicom_element(0x003A, 0x0210, "DS", sensitivity.encode(), order)
    if unit is not None:
        item += dicom_code(0x003A, 0x0211, unit, order=order)
    item += dicom_element(0x003A, 0x0212, "DS", correction.encode(), order)
    return item + dicom_element(0x003A, 0x0213, "DS", baseline.encode(), order) + extra


def dicom_group(
    stored: np.ndarray,
    channels: list[bytes],
    *,
    rate: str = "500",
    label: str = "RHYTHM",
    originality: str = "ORIGINAL",
    interpretation: str = "SS",
    padding: int | None = None,
    num_samples: int | None = None,
    order: str = "<",
) -> bytes:
    """One multiplex group. `stored` is [channel, time] of the type that is written."""
    bits = stored.dtype.itemsize * 8
    samples = stored.T.astype(stored.dtype.newbyteorder(order)).tobytes()
    item = dicom_element(0x003A, 0x0004, "CS", originality.encode(), order)
    item += dicom_element(0x003A, 0x0005, "US", struct.pack(order + "H", len(stored)), order)
    count = stored.shape[1] if num_samples is None else num_samples
    item += dicom_element(0x003A, 0x0010, "UL", struct.pack(order + "I", count), order)
    item += dicom_element(0x003A, 0x001A, "DS", rate.encode(), order)
    item += dicom_element(0x003A, 0x0020, "SH", label.encode(), order)
    item += dicom_sequence(0x003A, 0x0200, channels, order)
    item += dicom_element(0x5400, 0x1004, "US", struct.pack(order + "H", bits), order)
    item += dicom_element(0x5400, 0x1006, "CS", interpretation.encode(), order)
    if padding is not None:
        value = np.array([padding], stored.dtype.newbyteorder(order)).tobytes()
        item += dicom_element(0x5400, 0x100A, "OB" if bits == 8 else "OW", value, order)
    return item + dicom_element(0x5400, 0x1010, "OB" if bits == 8 else "OW", samples, order)


def dicom_file(
    groups: list[bytes],
    *,
    sop_class: str = "1.2.840.10008.5.1.4.1.1.9.1.1",
    patient: bytes | None = None,
    transfer_syntax: str = "1.2.840.10008.1.2.1",
    preamble: bool = True,
    order: str = "<",
) -> bytes:
    meta = dicom_element(0x0002, 0x0002, "UI", sop_class.encode())
    meta += dicom_element(0x0002, 0x0010, "UI", transfer_syntax.encode())
    meta = dicom_element(0x0002, 0x0000, "UL", struct.pack("<I", len(meta))) + meta
    body = dicom_element(0x0008, 0x0016, "UI", sop_class.encode(), order)
    body += dicom_patient(order=order) if patient is None else patient
    body += dicom_sequence(0x5400, 0x0100, groups, order)
    return bytes(128) + b"DICM" + meta + body if preamble else body


def dicom_patient(
    *, age: str = "063Y", birth: str = "", study: str = "20200301", sex: str = "M", order: str = "<"
) -> bytes:
    return b"".join(
        (
            dicom_element(0x0008, 0x0020, "DA", study.encode(), order),
            dicom_element(0x0010, 0x0010, "PN", b"Doe^Jane", order),
            dicom_element(0x0010, 0x0020, "LO", b"P-17", order),
            dicom_element(0x0010, 0x0030, "DA", birth.encode(), order),
            dicom_element(0x0010, 0x0040, "CS", sex.encode(), order),
            dicom_element(0x0010, 0x1010, "AS", age.encode(), order),
        )
    )


def dicom_12_lead(stored: np.ndarray) -> bytes:
    """A file of 12 int16 leads at 2.5 uV per count, named by their SCP-ECG codes, 500 Hz."""
    channels = [dicom_channel((f"5.6.3-9-{SCP_NUMBERS[lead]}", f"Lead {lead}")) for lead in LEADS]
    return dicom_file([dicom_group(stored, channels)])


# HL7 aECG implementation guide of 21 March 2005.


def aecg_series(
    stored: np.ndarray,
    *,
    code: str = "RHYTHM",
    names: tuple[str, ...] = LEADS,
    time: str = '<code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS"><head value="20200301101500.000"/>'
    '<increment value="0.002" unit="s"/></value>',
    origin: str = '<origin value="0" unit="uV"/>',
    scale: str = '<scale value="2.5" unit="uV"/>',
) -> str:
    sequences = [time]
    for name, row in zip(names, stored, strict=True):
        digits = " ".join(str(value) for value in row)
        sequences.append(
            f'<code code="MDC_ECG_LEAD_{name.upper()}" codeSystem="2.16.840.1.113883.6.24"/>'
            f'<value xsi:type="SLIST_PQ">{origin}{scale}<digits>{digits}</digits></value>'
        )
    components = "".join(f"<component><sequence>{sequence}</sequence></component>" for sequence in sequences)
    return (
        f'<component><series><code code="{code}" codeSystem="2.16.840.1.113883.5.4"/>'
        f"<component><sequenceSet>{components}</sequenceSet></component></series></component>"
    )


def aecg_file(*series: str, birth: str = "19560615", reported_age: str = "") -> bytes:
    age = (
        f'<value xsi:type="PQ" value="{reported_age}" unit="a"/>' if reported_age else '<value xsi:type="PQ" unit="a"/>'
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" type="Observation">
<id root="61d1a24f-b47e-41aa-ae95-f8ac302f4eeb"/><code code="93000"/>
<effectiveTime><low value="20200301101500.000"/><high value="20200301101510.000"/></effectiveTime>
<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject><id root="2.16" extension="P-17"/>
<subjectDemographicPerson><name>Jane Doe</name><administrativeGenderCode code="F"/><birthTime value="{birth}"/>
</subjectDemographicPerson></trialSubject></subject></subjectAssignment></componentOf></timepointEvent></componentOf>
<controlVariable><relatedObservation><code code="21612-7"/>{age}</relatedObservation></controlVariable>
{"".join(series)}
</AnnotatedECG>""".encode()


# GE MUSE, after the element names of restecg.dtd.


def muse_lead(name: str, row: np.ndarray, *, extra: str = "", units: str = "MICROVOLTS", per_bit: str = "4.88") -> str:
    text = base64.encodebytes(row.astype("<i2").tobytes()).decode()
    return f"""<LeadData><LeadByteCountTotal>{2 * row.size}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>
<LeadSampleCountTotal>{row.size}</LeadSampleCountTotal><LeadAmplitudeUnitsPerBit>{per_bit}</LeadAmplitudeUnitsPerBit>
<LeadAmplitudeUnits>{units}</LeadAmplitudeUnits><LeadID>{name}</LeadID><LeadSampleSize>2</LeadSampleSize>
<LeadOff>FALSE</LeadOff>{extra}<WaveFormData>
{text}</WaveFormData></LeadData>"""


def muse_waveform(stored: np.ndarray, *, kind: str = "Rhythm", base: str = "500", exponent: str = "0") -> str:
    leads = "".join(muse_lead(name, row) for name, row in zip(EIGHT_LEADS, stored, strict=True))
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{base}</SampleBase>"
        f"<SampleExponent>{exponent}</SampleExponent>{leads}</Waveform>"
    )


def muse_file(*waveforms: str, age: str = "<PatientAge>63</PatientAge><AgeUnits>YEARS</AgeUnits>") -> bytes:
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE RestingECG SYSTEM "restecg.dtd">
<RestingECG><MuseInfo><MuseVersion>7.1.1</MuseVersion></MuseInfo>
<PatientDemographics><PatientID>P-17</PatientID>{age}<DateofBirth>06-15-1956</DateofBirth><Gender>FEMALE</Gender>
<PatientLastName>D\xf6e</PatientLastName></PatientDemographics>
<TestDemographics><AcquisitionDate>03-01-2020</AcquisitionDate></TestDemographics>
{"".join(waveforms)}</RestingECG>""".encode("latin-1")


# Philips: the elements and attributes that the sierraecg package reads; XLI as it undoes it.


def xli_chunk(row: np.ndarray, start: int = -5) -> bytes:
    """One lead: second differences behind the first two samples, high bytes before low bytes, LZW, chunk header."""
    samples = row.astype(np.int64)
    stored = np.zeros(samples.size, np.int64)
    stored[:2] = samples[:2]
    bends = -(samples[2:] - 2 * samples[1:-1] + samples[:-2])
    # The bend of sample i stands in place i - 1; that of sample 2 stands in the header instead, and the last is unused.
    stored[2:-1] = bends[1:] + 64
    packed = lzw(b"".join(((stored >> shift) & 0xFF).astype(np.uint8).tobytes() for shift in (8, 0)))
    return struct.pack("<ihh", len(packed), 0, int(bends[0]) if bends.size else start) + packed


def lzw(content: bytes) -> bytes:
    """Codes of 10 bits; 1022 is the last string, 1023 the end."""
    codes: list[int] = []
    table = {bytes([value]): value for value in range(256)}
    known = b""
    for value in content:
        longer = known + bytes([value])
        if longer in table:
            known = longer
            continue
        codes.append(table[known])
        if len(table) <= 1022:
            table[longer] = len(table)
        known = bytes([value])
    codes += [table[known], 1023]
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def limb_residuals(stored: np.ndarray) -> np.ndarray:
    """What XLI keeps of III, aVR, aVL and aVF: how far they are from what I and II foretell in whole numbers."""
    i, ii, iii, avr, avl, avf = stored[:6].astype(np.int64)
    rest = [ii - i - iii, -((i + ii) // 2) - avr, (i - iii) // 2 - avl, (ii + iii) // 2 - avf]
    return np.concatenate([np.stack([i, ii, *rest]), stored[6:].astype(np.int64)])


def philips_file(
    content: str,
    num_samples: int,
    *,
    attributes: str = 'dataencoding="Base64" compression="XLI"',
    version: str = "1.04",
    labels: str = " ".join(LEADS),
    age: str = "<age><years>63</years></age>",
    resolution: str = "<resolution>5</resolution>",
) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<restingecgdata xmlns="http://www3.medical.philips.com">
<documentinfo><documenttype>PhilipsECG</documenttype><documentversion>{version}</documentversion></documentinfo>
<dataacquisition date="2020-03-01" time="10:15:00"><signalcharacteristics><samplingrate>500</samplingrate>{resolution}
<acquisitiontype>STD-12</acquisitiontype><bitspersample>16</bitspersample><signaloffset>0</signaloffset>
<signalsigned>True</signalsigned><numberchannelsallocated>12</numberchannelsallocated>
</signalcharacteristics></dataacquisition>
<patient><generalpatientdata><patientid>P-17</patientid><name><lastname>Doe</lastname></name>{age}<sex>Female</sex>
</generalpatientdata></patient>
<waveforms><parsedwaveforms {attributes} numberofleads="12" leadlabels="{labels}"
durationperchannel="{2 * num_samples}">
{content}
</parsedwaveforms></waveforms></restingecgdata>""".encode()


def philips_xli(stored: np.ndarray) -> str:
    return base64.encodebytes(b"".join(xli_chunk(row) for row in limb_residuals(stored))).decode()
