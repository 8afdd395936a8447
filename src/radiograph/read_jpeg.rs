//! JPEG → raster, through MozJPEG, whose decoder is libjpeg-turbo's: accurate integer IDCT, smooth chroma upsampling,
//! the same bits as Pillow.
//!
//! The C library reports errors through a callback that must not return. Ours unwinds with a [`Fault`], without touching
//! the panic hook, and [`read`] catches it; the library is built with unwind tables for this.

use std::io::{self, BufRead, Read};
use std::os::raw::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mozjpeg::{ColorSpace, Decompress, Marker};
use mozjpeg_sys as ffi;

use super::{Channels, DecodeLimits, ImageFormat, Preprocess, RadiographError, Raster, exif};

/// `JWRN_ARITH_BAD_CODE`: its place in the library's list of messages when arithmetic decoding is compiled in. The bindings
/// number that list without it, which shifts all codes after 124.
const ARITHMETIC_BAD_CODE: c_int = 126;
/// Every scan of a progressive file walks the whole picture, however few bytes it has. Encoders use about ten.
const MAX_SCANS: usize = 100;

/// The marker of a frame of JPEG-LS (T.87, C.1.1), which is another coding in JPEG's clothes.
pub(super) const JPEG_LS: u8 = 0xf7;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits, preprocess: Preprocess) -> Result<Raster, RadiographError> {
    if frame_header(bytes).is_some_and(|frame| frame.process == JPEG_LS) {
        return Err(unsupported("it is JPEG-LS"));
    }
    if scans(bytes) > MAX_SCANS {
        return Err(unsupported("it has far more scans than encoders write"));
    }
    catch_unwind(AssertUnwindSafe(|| decode(bytes, limits, preprocess))).unwrap_or_else(|payload| {
        Err(match payload.downcast::<Fault>() {
            Ok(fault) => fault.refusal(),
            Err(_) => corrupt("its coded data are invalid"),
        })
    })
}

/// May unwind with a [`Fault`].
fn decode(bytes: &[u8], limits: &DecodeLimits, preprocess: Preprocess) -> Result<Raster, RadiographError> {
    let failed = |_| corrupt("it ends before the picture is complete");
    let decoder = Decompress::with_err(error_manager(preprocess))
        .with_markers(&[Marker::APP(1)])
        .from_reader(Whole { rest: bytes })
        .map_err(failed)?;
    let (width, height) = decoder.size();
    let side = |length| u32::try_from(length).unwrap_or(u32::MAX);
    limits.check_size(side(width), side(height))?;
    let orientation = match preprocess {
        Preprocess::Compat => exif::Orientation::UPRIGHT,
        Preprocess::Default => decoder
            .markers()
            .find(|marker| marker.data.starts_with(b"Exif\0"))
            .map_or(exif::Orientation::UPRIGHT, |marker| exif::orientation(marker.data)),
    };
    let (channels, space) = match decoder.components().len() {
        1 => (Channels::Grey, ColorSpace::JCS_GRAYSCALE),
        3 => (Channels::Rgb, ColorSpace::JCS_RGB),
        4 => (Channels::Rgb, ColorSpace::JCS_CMYK),
        _ => return Err(unsupported("it has neither one, three nor four components")),
    };
    let mut started = decoder.to_colorspace(space).map_err(failed)?;
    let mut samples = started.read_scanlines::<u8>().map_err(failed)?;
    started.finish().map_err(failed)?;
    if space == ColorSpace::JCS_CMYK {
        samples = samples
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|&ink| from_inverted_cmyk(ink))
            .collect();
    }
    let raster = Raster::new(width, height, channels, samples).ok_or_else(|| corrupt("it holds no picture"))?;
    Ok(raster.upright(orientation))
}

/// Four-component JPEG is taken to be Adobe's, which stores inks inverted. Pillow's formula: `K' − C·K'/255`.
fn from_inverted_cmyk([cyan, magenta, yellow, light]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|inverted| {
        let product = u32::from(255 - inverted) * u32::from(light) + 128;
        light.saturating_sub(((product + (product >> 8)) >> 8) as u8)
    })
}

/// How many scans the file announces.
fn scans(bytes: &[u8]) -> usize {
    segments(bytes).filter(|(marker, _)| *marker == 0xda).count()
}

/// What a frame's header says (T.81, B.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The coding process, as its marker has it.
    pub(super) process: u8,
    /// Bits of a sample.
    pub(super) precision: u8,
    pub(super) height: u16,
    pub(super) width: u16,
    pub(super) components: u8,
}

/// The header of the first frame, which stands before the first scan.
pub(super) fn frame_header(bytes: &[u8]) -> Option<FrameHeader> {
    let mut before = segments(bytes).take_while(|(marker, _)| *marker != 0xda);
    // Tables have markers among those of frames.
    let of_a_frame = |marker: u8| matches!(marker, 0xc0..=0xcf | JPEG_LS) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
    let (process, body) = before.find(|(marker, _)| of_a_frame(*marker))?;
    let &[_, _, precision, height, low_height, width, low_width, components] = body.first_chunk::<8>()?;
    Some(FrameHeader {
        process,
        precision,
        height: u16::from_be_bytes([height, low_height]),
        width: u16::from_be_bytes([width, low_width]),
        components,
    })
}

/// Markers, walked as the decoder walks them, each with all that follows it.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)? + 1;
            match *bytes.get(at)? {
                // Fill bytes: the marker is yet to come.
                0xff => {}
                // Stuffing, TEM, restarts and SOI stand alone.
                0x00 | 0x01 | 0xd0..=0xd8 => at += 1,
                0xd9 => return None,
                marker => {
                    let body = &bytes[at + 1..];
                    let length = body
                        .first_chunk::<2>()
                        .map_or(body.len(), |&two| u16::from_be_bytes(two).into());
                    at += 1 + length.max(2);
                    return Some((marker, body));
                }
            }
        }
    })
}

/// A file in memory whose end is an error. The library's own reader would make up an end-of-image marker and fill what is
/// missing with grey; Pillow refuses such files.
struct Whole<'a> {
    rest: &'a [u8],
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Whole<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(self.rest)
        }
    }

    fn consume(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

/// What unwinds out of the C library: its message code.
struct Fault(c_int);

impl Fault {
    fn refusal(&self) -> RadiographError {
        const UNSUPPORTED: [c_int; 7] = [
            ffi::JERR_ARITH_NOTIMPL,
            ffi::JERR_BAD_PRECISION,
            ffi::JERR_CCIR601_NOTIMPL,
            ffi::JERR_COMPONENT_COUNT,
            ffi::JERR_CONVERSION_NOTIMPL,
            ffi::JERR_FRACT_SAMPLE_NOTIMPL,
            ffi::JERR_SOF_UNSUPPORTED,
        ];
        let code = self.0;
        if UNSUPPORTED.contains(&code) {
            unsupported("its coding process, precision or colour space is not supported")
        } else if code == ffi::JERR_FILE_READ {
            corrupt("it ends before the picture is complete")
        } else if code == ffi::JERR_OUT_OF_MEMORY {
            unsupported("there is not enough memory for it")
        } else {
            corrupt("its structure or coded data are invalid")
        }
    }
}

fn error_manager(preprocess: Preprocess) -> ffi::jpeg_error_mgr {
    // SAFETY: the struct is plain data for which all-zero is valid (`None`, null, 0); `jpeg_std_error` fills it in.
    let mut manager: ffi::jpeg_error_mgr = unsafe { std::mem::zeroed() };
    unsafe { ffi::jpeg_std_error(&mut manager) };
    manager.error_exit = Some(fail);
    manager.emit_message = Some(match preprocess {
        Preprocess::Default => refuse_damage,
        Preprocess::Compat => ignore,
    });
    manager
}

#[cold]
unsafe extern "C-unwind" fn fail(state: &mut ffi::jpeg_common_struct) {
    // SAFETY: the library calls this with the error manager that it was given.
    let code = unsafe { state.err.as_ref() }.map_or(0, |manager| manager.msg_code);
    resume_unwind(Box::new(Fault(code)));
}

/// Warnings after which the library goes on with made-up pixels are errors.
unsafe extern "C-unwind" fn refuse_damage(state: &mut ffi::jpeg_common_struct, level: c_int) {
    const DAMAGE: [c_int; 4] = [
        ffi::JWRN_HIT_MARKER,
        ffi::JWRN_HUFF_BAD_CODE,
        ffi::JWRN_MUST_RESYNC,
        ARITHMETIC_BAD_CODE,
    ];
    // SAFETY: as in `fail`.
    let code = unsafe { state.err.as_ref() }.map_or(0, |manager| manager.msg_code);
    if level < 0 && DAMAGE.contains(&code) {
        resume_unwind(Box::new(Fault(code)));
    }
}

unsafe extern "C-unwind" fn ignore(_: &mut ffi::jpeg_common_struct, _: c_int) {}

fn corrupt(reason: &'static str) -> RadiographError {
    RadiographError::Corrupt {
        format: ImageFormat::Jpeg,
        reason,
    }
}

fn unsupported(what: &'static str) -> RadiographError {
    RadiographError::Unsupported {
        format: ImageFormat::Jpeg,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_counted_by_their_markers_only() {
        let comment = b"\xff\xd8\xff\xfe\0\x06\xff\xda\xff\xda";
        let scan = b"\xff\xff\xda\0\x02\x12\xff\0\xda\xff\xd0\x34";
        let file = [&comment[..], scan, scan, b"\xff\xd9", scan].concat();
        assert_eq!(scans(&file), 2);
        for length in 0..file.len() {
            assert!(scans(&file[..length]) <= 2);
        }
    }

    #[test]
    fn the_header_of_a_frame_is_found_between_tables() {
        let tables = b"\xff\xd8\xff\xc4\0\x05\xff\xc0\0\xff\xdb\0\x03\0";
        let frame = b"\xff\xc3\0\x0b\x0c\x01\xe8\x01\xcc\x01\x01\x11\0\xff\xda";
        let file = [&tables[..], frame].concat();
        let header = FrameHeader {
            process: 0xc3,
            precision: 12,
            height: 488,
            width: 460,
            components: 1,
        };
        assert_eq!(frame_header(&file), Some(header));
        for length in 0..file.len() {
            let read = frame_header(&file[..length]);
            assert!(read.is_none_or(|read| read == header), "{length} bytes");
        }
        // One that stands behind a scan is another picture's.
        let late = [&b"\xff\xd8\xff\xda\0\x02"[..], &file[2..]].concat();
        assert_eq!(frame_header(&late), None);
    }

    #[test]
    fn a_file_of_jpeg_ls_is_no_damaged_jpeg() {
        let file = b"\xff\xd8\xff\xf7\0\x0b\x08\0\x02\0\x02\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\0\0\0\0\xff\xd9";
        for preprocess in [Preprocess::Default, Preprocess::Compat] {
            let refused = read(file, &DecodeLimits::default(), preprocess).unwrap_err();
            assert_eq!(refused, unsupported("it is JPEG-LS"));
        }
    }

    #[test]
    fn inverted_inks_become_light() {
        assert_eq!(from_inverted_cmyk([255, 255, 255, 255]), [255; 3]);
        assert_eq!(from_inverted_cmyk([255, 255, 255, 0]), [0; 3]);
        assert_eq!(from_inverted_cmyk([0, 255, 128, 255]), [0, 255, 128]);
    }
}
