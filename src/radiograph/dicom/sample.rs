//! DICOM files for tests, written by hand from DICOM PS3.5 and PS3.10.

use std::io::Write as _;

const PIXEL_DATA: (u16, u16) = (0x7fe0, 0x10);

/// How a data set is written (PS3.5, annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrittenAs {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

/// What a scan of a JPEG codes, whose table gives each number of bits the code of five bits that is this number.
#[derive(Default)]
pub(crate) struct ScanBits(Vec<bool>);

impl ScanBits {
    pub(crate) fn put(&mut self, value: i32, count: u32) {
        self.0.extend((0..count).rev().map(|bit| (value >> bit) & 1 == 1));
    }

    /// A difference, behind the code of its number of bits (T.81, F.1.2.1).
    pub(crate) fn put_difference(&mut self, difference: i32) {
        let size = 32 - difference.unsigned_abs().leading_zeros();
        self.put(size as i32, 5);
        self.put(if difference < 0 { difference - 1 } else { difference }, size);
    }

    /// The last byte filled up with ones, and a zero behind each 0xff (T.81, F.1.2.3).
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(8), true);
        let bytes = self.0.chunks(8);
        let bytes = bytes.map(|eight| eight.iter().fold(0u8, |byte, &bit| (byte << 1) | u8::from(bit)));
        bytes
            .flat_map(|byte| [byte, 0].into_iter().take(1 + usize::from(byte == 0xff)))
            .collect()
    }
}

/// An element of a data set.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    tag: (u16, u16),
    vr: &'static str,
    /// As little endian has it.
    value: Vec<u8>,
}

impl Element {
    /// PS3.5, 7.1.
    fn written(&self, written_as: WrittenAs) -> Vec<u8> {
        let big = written_as == WrittenAs::ExplicitBig;
        let word = |number: u16| match big {
            true => number.to_be_bytes(),
            false => number.to_le_bytes(),
        };
        let long = |number: u32| match big {
            true => number.to_be_bytes(),
            false => number.to_le_bytes(),
        };
        let length = u32::try_from(self.value.len()).unwrap();
        let mut written = [word(self.tag.0), word(self.tag.1)].concat();
        match (written_as, self.vr) {
            (WrittenAs::ImplicitLittle, _) => written.extend(long(length)),
            (_, "OB" | "OW" | "SQ" | "UN") => {
                written.extend(self.vr.as_bytes());
                written.extend([0, 0]);
                written.extend(long(length));
            }
            _ => {
                written.extend(self.vr.as_bytes());
                written.extend(word(u16::try_from(length).unwrap()));
            }
        }
        if big && matches!(self.vr, "US" | "SS" | "OW") {
            written.extend(self.value.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]));
        } else {
            written.extend(&self.value);
        }
        written
    }
}

/// An element of bytes or text; its length must be even.
pub(crate) fn element(tag: (u16, u16), vr: &'static str, value: &[u8]) -> Element {
    let value = value.to_vec();
    Element { tag, vr, value }
}

/// An element of 16-bit numbers.
pub(crate) fn words(tag: (u16, u16), vr: &'static str, numbers: &[u16]) -> Element {
    let value = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    Element { tag, vr, value }
}

/// A sequence of one item, for data sets in explicit VR little endian.
pub(crate) fn sequence(tag: (u16, u16), elements: &[Element]) -> Element {
    let elements: Vec<u8> = elements
        .iter()
        .flat_map(|element| element.written(WrittenAs::ExplicitLittle))
        .collect();
    element(tag, "SQ", &item(&elements))
}

/// Centre and width of a window.
pub(crate) fn window(centre: &str, width: &str) -> Vec<Element> {
    vec![
        element((0x28, 0x1050), "DS", centre.as_bytes()),
        element((0x28, 0x1051), "DS", width.as_bytes()),
    ]
}

/// PS3.5, 7.5 and A.4.
fn item(value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_le_bytes();
    [&[0xfe, 0xff, 0x00, 0xe0][..], &length, value].concat()
}

/// A picture, and what its file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) photometric: &'static str,
    /// Samples of a pixel.
    pub(crate) channels: u16,
    /// Width and height.
    pub(crate) size: (u16, u16),
    /// Bits of a sample as it lies in the file.
    pub(crate) allocated: u16,
    /// Bits of it that count, the lowest.
    pub(crate) stored: u16,
    pub(crate) signed: bool,
    /// Other elements, in any order.
    pub(crate) more: Vec<Element>,
    pub(crate) samples: Vec<u16>,
}

impl Picture {
    /// Grey of 16 bits, of which 12 are stored.
    pub(crate) fn grey(size: (u16, u16), samples: &[u16], more: Vec<Element>) -> Self {
        Self {
            photometric: "MONOCHROME2 ",
            channels: 1,
            size,
            allocated: 16,
            stored: 12,
            signed: false,
            more,
            samples: samples.to_vec(),
        }
    }

    /// All elements but the pixels, in their order.
    fn elements(&self) -> Vec<Element> {
        let (width, height) = self.size;
        let mut elements = vec![
            words((0x28, 2), "US", &[self.channels]),
            element((0x28, 4), "CS", self.photometric.as_bytes()),
            words((0x28, 0x10), "US", &[height]),
            words((0x28, 0x11), "US", &[width]),
            words((0x28, 0x100), "US", &[self.allocated]),
            words((0x28, 0x101), "US", &[self.stored]),
            words((0x28, 0x102), "US", &[self.stored - 1]),
            words((0x28, 0x103), "US", &[u16::from(self.signed)]),
        ];
        elements.extend(self.more.iter().cloned());
        elements.sort_by_key(|element| element.tag);
        elements
    }

    fn data_set(&self, written_as: WrittenAs) -> Vec<u8> {
        let mut elements = self.elements();
        elements.push(match self.allocated {
            8 => {
                let bytes: Vec<u8> = self.samples.iter().map(|&sample| sample as u8).collect();
                element(PIXEL_DATA, "OB", &bytes)
            }
            _ => words(PIXEL_DATA, "OW", &self.samples),
        });
        elements
            .iter()
            .flat_map(|element| element.written(written_as))
            .collect()
    }

    /// A file of plain pixels.
    pub(crate) fn plain(&self, written_as: WrittenAs) -> Vec<u8> {
        let syntax = match written_as {
            WrittenAs::ImplicitLittle => "1.2.840.10008.1.2",
            WrittenAs::ExplicitLittle => "1.2.840.10008.1.2.1",
            WrittenAs::ExplicitBig => "1.2.840.10008.1.2.2",
        };
        whole(syntax, &self.data_set(written_as))
    }

    /// A file whose data set is deflated (PS3.5, A.5).
    pub(crate) fn deflated(&self) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&self.data_set(WrittenAs::ExplicitLittle)).unwrap();
        whole("1.2.840.10008.1.2.1.99", &encoder.finish().unwrap())
    }

    /// A file whose pixels are coded (PS3.5, A.4): no table of offsets, and one fragment.
    pub(crate) fn coded(&self, syntax: &str, frame: &[u8]) -> Vec<u8> {
        self.in_fragments(syntax, &[frame])
    }

    /// As [`Self::coded`], in several fragments; all but the last must have even lengths.
    pub(crate) fn in_fragments(&self, syntax: &str, fragments: &[&[u8]]) -> Vec<u8> {
        let elements = self.elements();
        let mut data_set: Vec<u8> = elements
            .iter()
            .flat_map(|element| element.written(WrittenAs::ExplicitLittle))
            .collect();
        data_set.extend([0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 0xff, 0xff, 0xff, 0xff]);
        data_set.extend(item(&[]));
        for fragment in fragments {
            let mut fragment = fragment.to_vec();
            fragment.resize(fragment.len().next_multiple_of(2), 0);
            data_set.extend(item(&fragment));
        }
        data_set.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        whole(syntax, &data_set)
    }
}

/// A file of a transfer syntax (PS3.10, 7.1).
fn whole(syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let meta: Vec<u8> = [
        (0x02, "1.2.840.10008.5.1.4.1.1.1"),
        (0x03, "1.2.3.4"),
        (0x10, syntax),
        (0x12, "1.2.3"),
    ]
    .into_iter()
    .flat_map(|(number, uid)| {
        let mut uid = uid.as_bytes().to_vec();
        uid.resize(uid.len().next_multiple_of(2), 0);
        element((2, number), "UI", &uid).written(WrittenAs::ExplicitLittle)
    })
    .collect();
    let length = u32::try_from(meta.len()).unwrap().to_le_bytes();
    let length = element((2, 0), "UL", &length).written(WrittenAs::ExplicitLittle);
    [&[0; 128][..], b"DICM", &length, &meta, data_set].concat()
}

/// A grey file of 16 bits, of which 12 are stored, in explicit VR little endian.
pub(crate) fn file(
    photometric: &'static str,
    centre_and_width: Option<(&str, &str)>,
    size: (u16, u16),
    samples: &[u16],
) -> Vec<u8> {
    let more = centre_and_width.map_or_else(Vec::new, |(centre, width)| window(centre, width));
    let picture = Picture {
        photometric,
        ..Picture::grey(size, samples, more)
    };
    picture.plain(WrittenAs::ExplicitLittle)
}
