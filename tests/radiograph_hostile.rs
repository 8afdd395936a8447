//! Whatever a client sends as an image ends in pixels or a typed error, within the memory that the limits allow.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use llm_cxr::radiograph::{
    Channels, DecodeLimits, ImageFormat, Pixels, Preprocess, RadiographError, Raster, for_model, prepare, read, write,
};
use proptest::prelude::*;

const BOTH: [Preprocess; 2] = [Preprocess::Default, Preprocess::Compat];

/// Counts what the test's own thread allocates.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        PEAK.try_with(|peak| peak.set(peak.get().max(held.get())))
    });
}

// SAFETY: hands every request on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held at once, in bytes.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, isize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before)
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
}

fn header(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&size[..], &[bits, colour, 0, 0, 0]].concat())
}

fn png(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat(), chunk(b"IEND", b"")].concat()
}

/// A zlib stream of `count` zero bytes.
fn zeros(count: usize) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for start in (0..count).step_by(1 << 16) {
        encoder
            .write_all(&[0; 1 << 16][..(count - start).min(1 << 16)])
            .unwrap();
    }
    encoder.finish().unwrap()
}

fn picture(width: usize, height: usize) -> Pixels {
    let rgb = (0..width * height * 3).map(|i| (i * i / 7 % 251) as u8).collect();
    Pixels::new(width, height, rgb).unwrap()
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/radiograph");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let images = entries.filter(|path| path.extension().is_some_and(|e| e == "png" || e == "jpg"));
    let mut files: Vec<_> = images
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn outcome(bytes: &[u8], preprocess: Preprocess) -> Result<Raster, RadiographError> {
    read(bytes, &DecodeLimits::default(), preprocess)
}

#[test]
fn nothing_and_other_formats_are_refused_by_name() {
    assert_eq!(outcome(b"", Preprocess::Default), Err(RadiographError::Empty));
    for other in [&b"GIF89a"[..], b"\xff\xd8", b"\x89PNG\r\n", b"%PDF-1.7", &[0; 200]] {
        assert_eq!(outcome(other, Preprocess::Default), Err(RadiographError::UnknownFormat));
    }
}

#[test]
fn a_file_longer_than_the_limit_is_refused_unread() {
    let limits = DecodeLimits {
        max_bytes: 100,
        ..DecodeLimits::default()
    };
    let refused = read(&[0xff; 101], &limits, Preprocess::Default);
    assert_eq!(
        refused,
        Err(RadiographError::TooLarge {
            bytes: 101,
            max_bytes: 100
        })
    );
}

#[test]
fn a_png_of_sixty_thousand_on_a_side_is_refused_from_its_header() {
    let file = png(&[header(60_000, 60_000, 16, 6), chunk(b"IDAT", &zeros(1 << 20))]);
    assert!(file.len() < 8_000);
    for preprocess in BOTH {
        let (refused, peak) = peak_of(|| outcome(&file, preprocess));
        assert!(matches!(
            refused,
            Err(RadiographError::TooManyPixels {
                width: 60_000,
                height: 60_000,
                ..
            })
        ));
        assert!(peak < 1 << 20, "{peak} bytes were allocated");
    }
}

#[test]
fn a_strip_that_is_a_pixel_too_long_is_refused_however_few_pixels_it_has() {
    let strip = |width: u32, height: u32| {
        let data = zeros((width as usize + 1) * height as usize);
        png(&[header(width, height, 8, 0), chunk(b"IDAT", &data)])
    };
    for preprocess in BOTH {
        for (width, height) in [(1, 16_384), (16_384, 1)] {
            let raster = outcome(&strip(width, height), preprocess);
            assert!(raster.is_ok(), "{width}×{height}: {raster:?}");
        }
        for (width, height) in [(1, 16_385), (16_385, 1)] {
            let refused = outcome(&strip(width, height), preprocess);
            assert!(
                matches!(refused, Err(RadiographError::TooManyPixels { max_side: 16_384, .. })),
                "{width}×{height}: {refused:?}"
            );
        }
    }
}

#[test]
fn a_jpeg_whose_header_lies_about_its_size_is_refused_from_its_header() {
    let mut file = write(&picture(16, 16), ImageFormat::Jpeg, &[]).unwrap();
    let frame = file.windows(2).position(|marker| marker == b"\xff\xc0").unwrap();
    file[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let (refused, peak) = peak_of(|| outcome(&file, Preprocess::Default));
    assert!(
        matches!(
            refused,
            Err(RadiographError::TooManyPixels {
                width: 65_500,
                height: 65_500,
                ..
            })
        ),
        "{refused:?}"
    );
    assert!(peak < 1 << 20, "{peak} bytes were allocated");
}

#[test]
fn a_header_that_promises_more_than_the_file_holds_is_damage() {
    let file = png(&[header(4000, 4000, 8, 0), chunk(b"IDAT", &zeros(1 << 16))]);
    for preprocess in BOTH {
        let refused = outcome(&file, preprocess);
        assert!(
            matches!(
                refused,
                Err(RadiographError::Corrupt {
                    format: ImageFormat::Png,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn bombs_in_compressed_chunks_are_never_unpacked() {
    let bomb = zeros(256 << 20);
    let pixel = chunk(b"IDAT", &zeros(1 << 16));
    let profile = chunk(b"iCCP", &[b"p\0\0", &bomb[..]].concat());
    let text = chunk(b"zTXt", &[b"k\0\0", &bomb[..]].concat());
    let international = chunk(b"iTXt", &[b"k\0\x01\0\0\0", &bomb[..]].concat());
    for extra in [profile, text, international] {
        let file = png(&[header(1, 1, 8, 0), extra, pixel.clone()]);
        let (raster, peak) = peak_of(|| outcome(&file, Preprocess::Default));
        assert_eq!(raster.unwrap().samples(), [0]);
        assert!(peak < 4 << 20, "{peak} bytes were allocated");
    }
    let surplus = png(&[header(1, 1, 8, 0), chunk(b"IDAT", &bomb)]);
    let (raster, peak) = peak_of(|| outcome(&surplus, Preprocess::Default));
    assert_eq!(raster.unwrap().samples(), [0]);
    assert!(peak < 4 << 20, "{peak} bytes were allocated");
}

#[test]
fn endless_application_segments_are_skipped() {
    let file = write(&picture(16, 16), ImageFormat::Jpeg, &[]).unwrap();
    let segment = [&b"\xff\xe1\xff\xff"[..], &[0; 0xffff - 2]].concat();
    let padded = [&file[..2], &segment.repeat(300), &file[2..]].concat();
    for preprocess in BOTH {
        assert_eq!(
            outcome(&padded, preprocess).unwrap(),
            outcome(&file, preprocess).unwrap()
        );
    }
}

#[test]
fn thousands_of_scans_are_refused_before_decoding() {
    let file =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/radiograph/grey-progressive.jpg"))
            .unwrap();
    let scan = file.windows(2).rposition(|marker| marker == b"\xff\xda").unwrap();
    let (body, end) = (&file[scan..file.len() - 2], &file[file.len() - 2..]);
    let endless = [&file[..scan], &body.repeat(2000), end].concat();
    for preprocess in BOTH {
        let refused = outcome(&endless, preprocess);
        assert!(
            matches!(
                refused,
                Err(RadiographError::Unsupported {
                    format: ImageFormat::Jpeg,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn every_truncation_of_a_jpeg_is_refused() {
    for name in ["colour-420.jpg", "grey-progressive.jpg", "given-arithmetic-grey.jpg"] {
        let (_, file) = fixtures().into_iter().find(|(path, _)| path.ends_with(name)).unwrap();
        for length in 3..file.len() {
            for preprocess in BOTH {
                let refused = outcome(&file[..length], preprocess);
                assert!(
                    matches!(refused, Err(RadiographError::Corrupt { .. })),
                    "{name} cut at {length}: {refused:?}"
                );
            }
        }
    }
}

#[test]
fn every_truncation_of_a_png_is_refused_unless_compatible() {
    let file = write(&picture(9, 7), ImageFormat::Png, &[("Comment", "note")]).unwrap();
    for length in 8..file.len() {
        let refused = outcome(&file[..length], Preprocess::Default);
        assert!(
            matches!(refused, Err(RadiographError::Corrupt { .. })),
            "cut at {length}: {refused:?}"
        );
    }
    // Pillow is content when all pixels are there.
    let end = file.len() - 12;
    assert!(outcome(&file[..end], Preprocess::Compat).is_ok());
    assert!(outcome(&file[..end / 2], Preprocess::Compat).is_err());
}

#[test]
fn a_jpeg_with_a_hole_in_its_coded_data_is_refused_unless_compatible() {
    let file = write(&picture(64, 64), ImageFormat::Jpeg, &[]).unwrap();
    let holed = [&file[..file.len() / 2], &b"\xff\xd9"[..]].concat();
    assert!(matches!(
        outcome(&holed, Preprocess::Default),
        Err(RadiographError::Corrupt { .. })
    ));
    assert!(outcome(&holed, Preprocess::Compat).is_ok());
}

#[test]
fn strips_of_one_pixel_cost_no_more_than_their_size() {
    for (width, height) in [(1, 1), (1, 16_384), (16_384, 1), (3, 10_000)] {
        let raster = Raster::new(width, height, Channels::Grey, vec![77; width * height]).unwrap();
        let (pixels, peak) = peak_of(|| for_model(&raster, 256));
        assert!(pixels.rgb().iter().all(|&sample| sample == 77));
        assert_eq!((pixels.width(), pixels.height()), (256, 256));
        assert!(peak < 4 << 20, "{width}×{height} took {peak} bytes");
    }
}

#[test]
fn an_image_at_the_limit_is_read_within_the_memory_the_limits_promise() {
    let limits = DecodeLimits {
        max_pixels: 1 << 20,
        ..DecodeLimits::default()
    };
    for (bits, colour, samples) in [(8, 0, 1), (16, 0, 2), (8, 6, 4), (16, 6, 8)] {
        let data = zeros((1024 * samples + 1) << 10);
        let file = png(&[header(1024, 1024, bits, colour), chunk(b"IDAT", &data)]);
        let (result, peak) = peak_of(|| prepare(&file, &limits, Preprocess::Default, 256));
        assert!(result.is_ok(), "{result:?}");
        assert!(peak < 15 << 20, "{bits} bits, colour type {colour}: {peak} bytes");
    }
}

/// A progressive JPEG of four components without subsampling, of which the decoder keeps all coefficients.
fn four_components(width: usize, height: usize) -> Vec<u8> {
    let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_CMYK);
    encoder.set_size(width, height);
    encoder.set_fastest_defaults();
    encoder.set_progressive_mode();
    let mut started = encoder.start_compress(Vec::new()).unwrap();
    let row: Vec<u8> = (0..width * 4).map(|i| (i / 16 % 251) as u8).collect();
    for _ in 0..height {
        started.write_scanlines(&row).unwrap();
    }
    started.finish().unwrap()
}

/// The decoder of JPEG is C's, and takes its memory past Rust's allocator: what counts is what the system sees. A process never gives back its
/// peak, so each file is read in one of its own, which is this very test, told which file.
#[test]
#[cfg(target_os = "linux")]
fn a_jpeg_at_the_limit_is_read_within_the_memory_the_limits_promise() {
    const NAME: &str = "a_jpeg_at_the_limit_is_read_within_the_memory_the_limits_promise";
    const FILE: &str = "LLM_CXR_TEST_JPEG";
    const SIDE: usize = 2048;
    let pixels = (SIDE * SIDE) as u64;
    if let Some(path) = std::env::var_os(FILE) {
        let limits = DecodeLimits {
            max_pixels: pixels,
            ..DecodeLimits::default()
        };
        let raster = read(&std::fs::read(path).unwrap(), &limits, Preprocess::Default).unwrap();
        assert_eq!(raster.channels(), Channels::Rgb);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        println!("{peak}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let peak_of_reading = |side: usize| {
        let path = folder.path().join(format!("{side}.jpg"));
        let file = four_components(side, side);
        std::fs::write(&path, &file).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(FILE, &path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}");
        let kilobytes = told
            .split("VmHWM:")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        let kilobytes: u64 = kilobytes.and_then(|word| word.parse().ok()).expect(&told);
        (kilobytes << 10, file.len() as u64)
    };
    let (least, _) = peak_of_reading(16);
    let (most, length) = peak_of_reading(SIDE);
    let taken = most.saturating_sub(least);
    // Coefficients alone are eight bytes a pixel: less would mean that they were not seen.
    assert!(taken > 8 * pixels, "{taken} bytes were seen");
    assert!(taken < length + 15 * pixels + (8 << 20), "{taken} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_end_in_pixels_or_an_error(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let files = fixtures();
        let (name, mut file) = files[which.index(files.len())].clone();
        for (place, value) in &edits {
            let place = place.index(file.len());
            file[place] = *value;
        }
        // Most edits of a PNG only break a checksum; mend them so that the damage gets through.
        if name.ends_with(".png") {
            mend(&mut file);
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let limits = DecodeLimits { max_pixels: 1 << 20, ..DecodeLimits::default() };
        for preprocess in BOTH {
            let (result, peak) = peak_of(|| prepare(&file, &limits, preprocess, 64));
            prop_assert!(peak < 100 << 20, "{name}: {peak} bytes");
            if let Ok(pixels) = result {
                prop_assert_eq!((pixels.width(), pixels.height()), (64, 64));
            }
        }
    }

    #[test]
    fn a_grey_image_gives_the_same_square_as_its_rgb_copy(
        (width, height) in (1usize..90, 1usize..90), side in 1usize..70, seed in any::<u64>(),
    ) {
        let grey: Vec<u8> = (0..width * height).map(|i| (seed.rotate_left((i % 64) as u32) >> (i % 7)) as u8).collect();
        let rgb = grey.iter().flat_map(|&sample| [sample; 3]).collect();
        let square = for_model(&Raster::new(width, height, Channels::Grey, grey).unwrap(), side);
        prop_assert_eq!(&square, &for_model(&Raster::new(width, height, Channels::Rgb, rgb).unwrap(), side));
        prop_assert_eq!((square.width(), square.height()), (side, side));
    }
}

/// Recomputes the checksums of a PNG's chunks as far as their lengths make sense.
fn mend(file: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = file
        .get(at..at + 4)
        .map(|four| u32::from_be_bytes(four.try_into().unwrap()) as usize)
    {
        let end = at + 8 + length;
        if end + 4 > file.len() {
            return;
        }
        let sum = crc(&file[at + 4..end]);
        file[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}
