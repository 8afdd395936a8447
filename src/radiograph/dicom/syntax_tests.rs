//! The transfer syntaxes that `docs/operations.md` promises: what is decoded are the pixels that were coded.

use super::read::{DicomError, read_dicom};
use super::sample::{Picture, ScanBits, WrittenAs, window};
use super::syntax::{PixelForm, TransferSyntax};
use crate::radiograph::{Channels, DecodeLimits, ImageFormat, Pixels, Preprocess, Raster, read, write};

const WIDTH: u16 = 40;
const HEIGHT: u16 = 32;
const RLE: &str = "1.2.840.10008.1.2.5";
const BASELINE: &str = "1.2.840.10008.1.2.4.50";
const EXTENDED: &str = "1.2.840.10008.1.2.4.51";
const LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";

fn each_pixel(value: impl Fn(u16, u16) -> u16) -> Vec<u16> {
    let places = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    places.map(|(x, y)| value(x, y)).collect()
}

/// 256 levels without order, with flat rows between. As `tests/fixtures/make_dicom_fixtures.py` has them.
fn levels() -> Vec<u16> {
    each_pixel(|x, y| {
        if y % 4 == 0 {
            8 * y
        } else {
            (7 * x + 13 * y + x * y) % 256
        }
    })
}

/// What lossy coding keeps. As `tests/fixtures/make_dicom_fixtures.py` has it.
fn ramp() -> Vec<u16> {
    each_pixel(|x, y| 20 + 2 * x + 3 * y)
}

/// 8 bits, with the window that shows each sample as it is.
fn eight(samples: &[u16]) -> Picture {
    Picture {
        allocated: 8,
        stored: 8,
        ..Picture::grey((WIDTH, HEIGHT), samples, window("128 ", "256 "))
    }
}

/// Samples from 1000 on, which takes both bytes, with the window that shows 1000 as 0, 1001 as 1, and so on.
fn sixteen(levels: &[u16]) -> Picture {
    let samples: Vec<u16> = levels.iter().map(|level| 1000 + level).collect();
    Picture::grey((WIDTH, HEIGHT), &samples, window("1128", "256 "))
}

fn raster(file: &[u8]) -> Raster {
    read_dicom(file, &DecodeLimits::default()).unwrap()
}

#[track_caller]
fn assert_same(file: &[u8], levels: &[u16]) {
    let seen: Vec<u16> = raster(file).samples().iter().map(|&sample| sample.into()).collect();
    assert_eq!(seen, levels);
}

#[track_caller]
fn assert_near(seen: &[u8], right: &[u8]) {
    assert_eq!(seen.len(), right.len());
    let furthest = seen.iter().zip(right).map(|(one, other)| one.abs_diff(*other)).max();
    assert!(furthest <= Some(2), "{furthest:?} levels away");
}

fn bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|&sample| sample as u8).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dicom");
    std::fs::read(folder.join(name)).unwrap()
}

/// PackBits (PS3.5, G.3.1), to an even length.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let same = rest.iter().take(128).take_while(|byte| *byte == first).count();
        let apart = rest.windows(2).take(128).take_while(|two| two[0] != two[1]).count();
        let taken = if same > 1 {
            out.extend([(1 - same as i32) as u8, *first]);
            same
        } else {
            let apart = apart.max(1);
            out.push((apart - 1) as u8);
            out.extend(&rest[..apart]);
            apart
        };
        rest = &rest[taken..];
    }
    out.resize(out.len().next_multiple_of(2), 0);
    out
}

/// A frame of RLE (PS3.5, G.5): where the segments are, and the segments.
fn rle(segments: &[Vec<u8>]) -> Vec<u8> {
    let mut head = vec![segments.len() as u32];
    let mut place = 64;
    for segment in segments {
        head.push(place);
        place += segment.len() as u32;
    }
    head.resize(16, 0);
    let mut frame: Vec<u8> = head.iter().flat_map(|number| number.to_le_bytes()).collect();
    frame.extend(segments.concat());
    frame
}

/// Lossless JPEG of one component (T.81, annex H): what a sample differs from its left neighbour by, the first of a row from the one above.
fn lossless(bits: u8, samples: &[u16]) -> Vec<u8> {
    let width = usize::from(WIDTH);
    let mut coded = ScanBits::default();
    for (at, &sample) in samples.iter().enumerate() {
        let predicted = match (at % width, at / width) {
            (0, 0) => 1i32 << (bits - 1),
            (0, _) => i32::from(samples[at - width]),
            _ => i32::from(samples[at - 1]),
        };
        coded.put_difference(i32::from(sample) - predicted);
    }
    let mut file = vec![0xff, 0xd8, 0xff, 0xc3, 0, 11, bits];
    file.extend([HEIGHT.to_be_bytes(), WIDTH.to_be_bytes()].concat());
    file.extend([1, 1, 0x11, 0, 0xff, 0xc4, 0, 35, 0]);
    // Codes of each length, from 1 to 16.
    file.extend([0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(0u8..16);
    file.extend([0xff, 0xda, 0, 8, 1, 1, 0, 1, 0, 0]);
    file.extend(coded.into_bytes());
    file.extend([0xff, 0xd9]);
    file
}

/// The repository's own JPEG of a ramp.
fn jpeg() -> Vec<u8> {
    let rgb = bytes(&ramp()).into_iter().flat_map(|level| [level; 3]).collect();
    let pixels = Pixels::new(WIDTH.into(), HEIGHT.into(), rgb).unwrap();
    write(&pixels, ImageFormat::Jpeg, &[]).unwrap()
}

#[test]
fn plain_pixels_are_read_in_either_order_of_bytes_with_and_without_types() {
    for written_as in [
        WrittenAs::ImplicitLittle,
        WrittenAs::ExplicitLittle,
        WrittenAs::ExplicitBig,
    ] {
        assert_same(&eight(&levels()).plain(written_as), &levels());
        assert_same(&sixteen(&levels()).plain(written_as), &levels());
    }
}

#[test]
fn a_deflated_data_set_is_read() {
    for picture in [eight(&levels()), sixteen(&levels())] {
        let file = picture.deflated();
        assert!(file.len() < picture.plain(WrittenAs::ExplicitLittle).len());
        assert_same(&file, &levels());
    }
}

#[test]
fn run_lengths_are_read() {
    let picture = eight(&levels());
    let frame = rle(&[packed(&bytes(&picture.samples))]);
    assert_same(&picture.coded(RLE, &frame), &levels());
    // The high bytes first.
    let picture = sixteen(&levels());
    let high: Vec<u8> = picture.samples.iter().map(|sample| (sample >> 8) as u8).collect();
    let frame = rle(&[packed(&high), packed(&bytes(&picture.samples))]);
    assert_same(&picture.coded(RLE, &frame), &levels());
}

#[test]
fn lossless_jpeg_is_read() {
    for syntax in ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"] {
        let picture = eight(&levels());
        assert_same(&picture.coded(syntax, &lossless(8, &picture.samples)), &levels());
        let picture = sixteen(&levels());
        for bits in [12, 16] {
            assert_same(&picture.coded(syntax, &lossless(bits, &picture.samples)), &levels());
        }
    }
}

#[test]
fn lossy_jpeg_of_eight_bits_is_read() {
    for syntax in [BASELINE, EXTENDED] {
        let seen = raster(&eight(&ramp()).coded(syntax, &jpeg()));
        assert_near(seen.samples(), &bytes(&ramp()));
    }
}

#[test]
fn lossy_jpeg_in_colour_is_read_as_a_jpeg_file_is() {
    let coloured = |level: u8| [level, 220 - level, 100];
    let rgb = bytes(&ramp()).into_iter().flat_map(coloured).collect();
    let pixels = Pixels::new(WIDTH.into(), HEIGHT.into(), rgb).unwrap();
    let jpeg = write(&pixels, ImageFormat::Jpeg, &[]).unwrap();
    let picture = Picture {
        photometric: "YBR_FULL_422",
        channels: 3,
        ..eight(&[])
    };
    let seen = raster(&picture.coded(BASELINE, &jpeg));
    let right = read(&jpeg, &DecodeLimits::default(), Preprocess::Default).unwrap();
    assert_eq!(seen.channels(), Channels::Rgb);
    assert_near(seen.samples(), right.samples());
}

#[test]
fn jpeg_2000_is_read() {
    for syntax in ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"] {
        assert_same(&eight(&levels()).coded(syntax, &fixture("lossless-8.j2k")), &levels());
        assert_same(
            &sixteen(&levels()).coded(syntax, &fixture("lossless-16.j2k")),
            &levels(),
        );
    }
    let lossy = eight(&ramp()).coded("1.2.840.10008.1.2.4.91", &fixture("lossy-8.j2k"));
    assert_near(raster(&lossy).samples(), &bytes(&ramp()));
}

#[test]
fn jpeg_ls_keeps_every_sample_or_each_within_its_bound() {
    for syntax in [JPEG_LS, "1.2.840.10008.1.2.4.81"] {
        assert_same(&eight(&levels()).coded(syntax, &fixture("lossless-8.jls")), &levels());
        assert_same(
            &sixteen(&levels()).coded(syntax, &fixture("lossless-16.jls")),
            &levels(),
        );
    }
    let near = eight(&ramp()).coded("1.2.840.10008.1.2.4.81", &fixture("near-8.jls"));
    assert_near(raster(&near).samples(), &bytes(&ramp()));
}

#[test]
fn a_broken_frame_of_jpeg_ls_is_refused_and_one_in_colour_by_its_name() {
    let whole = fixture("lossless-16.jls");
    let read = |frame: &[u8]| read_dicom(&sixteen(&levels()).coded(JPEG_LS, frame), &DecodeLimits::default());
    for length in (0..whole.len() - 2).step_by(7) {
        assert_eq!(read(&whole[..length]).err(), Some(DicomError::Pixels), "{length} bytes");
    }
    // Whatever stands in it, it is read or refused.
    for at in 0..whole.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            let seen = read(&damaged).ok().map(|raster| raster.samples().len());
            assert!(seen.is_none_or(|samples| samples == levels().len()), "byte {at}");
        }
    }
    let frame = whole.windows(2).position(|marker| marker == b"\xff\xf7").unwrap();
    let mut colour = whole;
    colour[frame + 9] = 3;
    assert_eq!(read(&colour).err(), Some(DicomError::Form(PixelForm::ColourJpegLs)));
}

fn refused(file: &[u8]) -> Option<DicomError> {
    read_dicom(file, &DecodeLimits::default()).err()
}

#[test]
fn what_is_promised_not_to_be_read_is_refused_by_its_name() {
    // JPEG XL, a film, and one that nobody knows.
    for syntax in ["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.102", "1.2.3.4"] {
        let file = eight(&ramp()).coded(syntax, &jpeg());
        assert_eq!(refused(&file), Some(DicomError::Syntax(TransferSyntax::of(syntax))));
    }
    // A lossy JPEG with progression that says that its samples have 12 bits, and one in colour.
    let mut other = jpeg();
    let frame = other.windows(2).position(|marker| marker == b"\xff\xc0").unwrap();
    other[frame + 4] = 12;
    for (process, channels) in [(0xc2, 1), (0xc1, 3)] {
        (other[frame + 1], other[frame + 9]) = (process, channels);
        let file = sixteen(&ramp()).coded(EXTENDED, &other);
        assert_eq!(refused(&file), Some(DicomError::Form(PixelForm::DeepLossyJpeg)));
    }
    // Arithmetic codes, and JPEG-LS under another name.
    for process in [0xc9, 0xf7] {
        other[frame + 1] = process;
        let file = sixteen(&ramp()).coded(EXTENDED, &other);
        assert_eq!(refused(&file), Some(DicomError::Form(PixelForm::JpegProcess)));
    }
}

#[test]
fn a_coded_frame_that_is_not_what_the_file_says_of_it_is_refused() {
    for (syntax, frame) in [
        (BASELINE, jpeg()),
        (LOSSLESS, lossless(8, &levels())),
        (JPEG_LS, fixture("lossless-8.jls")),
        (JPEG_2000, fixture("lossless-8.j2k")),
    ] {
        for size in [
            (WIDTH - 2, HEIGHT),
            (WIDTH + 2, HEIGHT),
            (WIDTH, HEIGHT - 2),
            (WIDTH, HEIGHT + 2),
        ] {
            let picture = Picture { size, ..eight(&[]) };
            assert_eq!(
                refused(&picture.coded(syntax, &frame)),
                Some(DicomError::Pixels),
                "{syntax}"
            );
        }
        let colour = Picture {
            photometric: "YBR_FULL_422",
            channels: 3,
            ..eight(&[])
        };
        assert_eq!(
            refused(&colour.coded(syntax, &frame)),
            Some(DicomError::Pixels),
            "{syntax}"
        );
        // Cut off before the header's end.
        assert_eq!(
            refused(&eight(&[]).coded(syntax, &frame[..12])),
            Some(DicomError::Pixels),
            "{syntax}"
        );
    }
    // More bits than are allocated.
    for (syntax, frame) in [
        (LOSSLESS, lossless(12, &levels())),
        (EXTENDED, fixture("extended-12.jpg")),
        (JPEG_LS, fixture("lossless-16.jls")),
        (JPEG_2000, fixture("lossless-16.j2k")),
    ] {
        assert_eq!(
            refused(&eight(&[]).coded(syntax, &frame)),
            Some(DicomError::Pixels),
            "{syntax}"
        );
    }
}

#[test]
fn jpeg_of_eight_bits_is_read_where_sixteen_are_allocated() {
    let in_sixteen = Picture {
        allocated: 16,
        ..eight(&[])
    };
    assert_same(&in_sixteen.coded(LOSSLESS, &lossless(8, &levels())), &levels());
    assert_same(&in_sixteen.coded(JPEG_2000, &fixture("lossless-8.j2k")), &levels());
    let lossy = raster(&in_sixteen.coded(BASELINE, &jpeg()));
    assert_near(lossy.samples(), &bytes(&ramp()));
}

#[test]
fn colours_that_are_coded_as_ycbcr_become_rgb() {
    let luma = bytes(&ramp());
    let even = packed(&vec![128; luma.len()]);
    let planes = rle(&[packed(&luma), even.clone(), even]);
    let colour = |photometric: &'static str| Picture {
        photometric,
        channels: 3,
        ..eight(&[])
    };
    let grey: Vec<u8> = luma.iter().flat_map(|&level| [level; 3]).collect();
    assert_eq!(raster(&colour("YBR_FULL").coded(RLE, &planes)).samples(), grey);
    let stored: Vec<u8> = luma.iter().flat_map(|&level| [level, 128, 128]).collect();
    assert_eq!(raster(&colour("RGB ").coded(RLE, &planes)).samples(), stored);
    let plain = Picture {
        samples: stored.iter().map(|&sample| sample.into()).collect(),
        ..colour("YBR_FULL")
    };
    assert_near(raster(&plain.plain(WrittenAs::ExplicitLittle)).samples(), &grey);
}
