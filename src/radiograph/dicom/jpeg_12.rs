//! Frames in lossy JPEG of 12 bits (T.81's extended sequential process with Huffman codes; PS3.5, A.4.1). The library of the other codings
//! reads lossy JPEG of 8 bits only.

use oxiarc_jpeg::{DecodeLimits, DecodeOptions, decode_abbreviated_into_u16};

use super::read::DicomError;
use crate::radiograph::read_jpeg;

/// The marker of a scan's header.
const SCAN: u8 = 0xda;

/// The samples of a frame of one channel and of `size`: width and height. Those above `greatest`, by which lossy coding may miss the greatest
/// value that the file stores, become it.
pub(super) fn decode(mut frame: Vec<u8>, size: (u32, u32), greatest: u16) -> Result<Vec<u16>, DicomError> {
    name_all_coefficients(&mut frame);
    let pixels = u64::from(size.0) * u64::from(size.1);
    let options = DecodeOptions {
        limits: DecodeLimits {
            max_width: size.0,
            max_height: size.1,
            max_pixels: pixels,
            max_components: 1,
            // One is a picture of one channel; of more each would be decoded.
            max_scans: 1,
            // Only progressive frames keep any, and those are not read here.
            max_coefficient_bytes: 0,
            ..DecodeLimits::default()
        },
        ..DecodeOptions::raw()
    };
    let mut samples = vec![0; usize::try_from(pixels).map_err(|_| DicomError::Pixels)?];
    let read = decode_abbreviated_into_u16(None, &frame, &options, &mut samples).map_err(|_| DicomError::Pixels)?;
    // The decoder may have found another header than we did.
    if (u32::from(read.width), u32::from(read.height)) != size || read.precision != 12 {
        return Err(DicomError::Pixels);
    }
    for sample in &mut samples {
        *sample = (*sample).min(greatest);
    }
    Ok(samples)
}

/// Has the scan say that it codes all coefficients of its blocks. It does in a sequential process, whatever it says (T.81, B.2.3); some encoders say
/// that it codes the first one only, which this decoder refuses and others read.
fn name_all_coefficients(frame: &mut [u8]) {
    let scan = read_jpeg::segments(frame).find(|(marker, _)| *marker == SCAN);
    let Some(at) = scan.map(|(_, body)| frame.len() - body.len()) else {
        return;
    };
    // The header's length, the number of channels, the channel and its tables: then the first coefficient, the last, and their bits.
    if let Some([0, 8, 1, _, _, span @ ..]) = frame[at..].first_chunk_mut::<8>() {
        *span = [0, 63, 0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::dicom::sample::{Picture, ScanBits, window};
    use crate::radiograph::{self, read_dicom};

    const EXTENDED: &str = "1.2.840.10008.1.2.4.51";
    /// What DCMTK coded, by its size; beside each lies what DCMTK decodes it to.
    const CODED: [(&str, (u16, u16)); 2] = [("extended-12", (40, 32)), ("extended-12-odd", (33, 19))];

    fn fixture(name: &str) -> Vec<u8> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dicom");
        std::fs::read(folder.join(name)).unwrap()
    }

    fn decoded(name: &str) -> Vec<u16> {
        let bytes = fixture(&format!("{name}.raw"));
        bytes.as_chunks().0.iter().map(|&two| u16::from_le_bytes(two)).collect()
    }

    /// A frame of 12 bits by hand, whose blocks of 8 by 8 pixels have one level each. `restart`: blocks between restarts, or 0; `table`: the number
    /// of all its tables; `coefficients`: which one its scan says is the last.
    fn flat(size: (u16, u16), levels: &[u16], restart: u16, table: u8, coefficients: u8) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        // Steps of quantisation of 16 bits, all 1.
        file.extend([0xff, 0xdb, 0, 131, 0x10 | table]);
        file.extend([0, 1].repeat(64));
        file.extend([0xff, 0xc1, 0, 11, 12]);
        file.extend([size.1.to_be_bytes(), size.0.to_be_bytes()].as_flattened());
        file.extend([1, 7, 0x22, table]);
        // Of the first coefficients: 16 codes of 5 bits, each the number of bits of a difference. Of the others: 0, that there are none.
        file.extend([
            0xff, 0xc4, 0, 35, table, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        file.extend(0u8..16);
        file.extend([
            0xff,
            0xc4,
            0,
            20,
            0x10 | table,
            1,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        if restart > 0 {
            file.extend([0xff, 0xdd, 0, 4]);
            file.extend(restart.to_be_bytes());
        }
        file.extend([0xff, 0xda, 0, 8, 1, 7, table << 4 | table, 0, coefficients, 0]);
        let interval = if restart == 0 { levels.len() } else { restart.into() };
        for (at, levels) in levels.chunks(interval).enumerate() {
            if at > 0 {
                file.extend([0xff, 0xd0 | (at as u8 - 1) & 7]);
            }
            let mut coded = ScanBits::default();
            let mut last = 0;
            for &level in levels {
                let first = 8 * (i32::from(level) - 2048);
                coded.put_difference(first - last);
                last = first;
                coded.put(0, 1);
            }
            file.extend(coded.into_bytes());
        }
        file.extend([0xff, 0xd9]);
        file
    }

    /// What a frame of `flat` shows.
    fn in_blocks(size: (u16, u16), levels: &[u16]) -> Vec<u16> {
        let across = usize::from(size.0).div_ceil(8);
        let pixels = (0..usize::from(size.1)).flat_map(|y| (0..usize::from(size.0)).map(move |x| (x, y)));
        pixels.map(|(x, y)| levels[y / 8 * across + x / 8]).collect()
    }

    fn read(picture: &Picture, frame: &[u8]) -> Result<Vec<u8>, DicomError> {
        read_dicom(&picture.coded(EXTENDED, frame), &radiograph::DecodeLimits::default())
            .map(|raster| raster.samples().to_vec())
    }

    fn picture(size: (u16, u16)) -> Picture {
        Picture::grey(size, &[], Vec::new())
    }

    #[test]
    fn frames_are_decoded_to_what_dcmtk_decodes_them_to() {
        for (name, (width, height)) in CODED {
            let frame = fixture(&format!("{name}.jpg"));
            let samples = decode(frame, (width.into(), height.into()), u16::MAX).unwrap();
            assert_eq!(samples, decoded(name), "{name}");
        }
    }

    #[test]
    fn restarts_and_tables_of_any_number_are_read() {
        let size = (21, 30);
        let levels = [0, 4095, 1000, 1001, 2048, 2047, 17, 3000, 4094, 255, 256, 1];
        for restart in [0, 1, 2, 5, 12, 400] {
            for table in 0..4 {
                let frame = flat(size, &levels, restart, table, 63);
                let samples = decode(frame, (21, 30), u16::MAX).unwrap();
                assert_eq!(samples, in_blocks(size, &levels), "{restart} {table}");
            }
        }
    }

    #[test]
    fn a_scan_that_names_the_first_coefficient_only_has_all() {
        let levels = [5, 4000];
        let samples = decode(flat((16, 8), &levels, 0, 0, 0), (16, 8), u16::MAX).unwrap();
        assert_eq!(samples, in_blocks((16, 8), &levels));
        let (name, (width, height)) = CODED[0];
        let mut frame = fixture(&format!("{name}.jpg"));
        let scan = frame.windows(4).position(|four| four == [0xff, SCAN, 0, 8]).unwrap();
        frame[scan + 8] = 0;
        let samples = decode(frame, (width.into(), height.into()), u16::MAX).unwrap();
        assert_eq!(samples, decoded(name));
    }

    #[test]
    fn a_file_is_shown_by_its_window_and_what_it_stores() {
        let size = (32, 8);
        let (levels, shown) = ([1000, 1100, 1200, 1255], [0, 100, 200, 255]);
        let frame = flat(size, &levels, 0, 0, 63);
        let windowed = Picture::grey(size, &[], window("1128", "256 "));
        assert_eq!(read(&windowed, &frame).unwrap(), bytes(&in_blocks(size, &shown)));
        // In fragments, of which one ends within the header and another behind a 0xff that is no marker's.
        let file = windowed.in_fragments(EXTENDED, &[&frame[..20], &frame[20..190], &frame[190..]]);
        let seen = read_dicom(&file, &radiograph::DecodeLimits::default()).unwrap();
        assert_eq!(seen.samples(), bytes(&in_blocks(size, &shown)));
        let inverted = Picture {
            photometric: "MONOCHROME1 ",
            ..windowed
        };
        let dark: Vec<u8> = read(&inverted, &frame).unwrap().iter().map(|grey| 255 - grey).collect();
        assert_eq!(dark, bytes(&in_blocks(size, &shown)));
    }

    #[test]
    fn what_is_coded_above_the_greatest_value_that_is_stored_is_that_value() {
        let size = (24, 8);
        let ten = Picture {
            stored: 10,
            ..Picture::grey(size, &[], window("512 ", "1024"))
        };
        let frame = flat(size, &[0, 1023, 1030], 0, 0, 63);
        assert_eq!(read(&ten, &frame).unwrap(), bytes(&in_blocks(size, &[0, 255, 255])));
    }

    #[test]
    fn a_frame_that_is_cut_off_or_not_what_the_file_says_is_refused() {
        let (name, size) = CODED[1];
        let whole = fixture(&format!("{name}.jpg"));
        let refused = |size, frame: &[u8]| read(&picture(size), frame).err();
        assert_eq!(refused(size, &whole), None);
        let end = whole.windows(2).rposition(|two| two == [0xff, 0xd9]).unwrap();
        for length in (0..end - 4).step_by(5) {
            assert_eq!(
                refused(size, &whole[..length]),
                Some(DicomError::Pixels),
                "{length} bytes"
            );
        }
        for other in [(32, 19), (34, 19), (33, 18), (33, 20), (19, 33)] {
            assert_eq!(refused(other, &whole), Some(DicomError::Pixels), "{other:?}");
        }
        let eight = Picture {
            allocated: 8,
            stored: 8,
            ..picture(size)
        };
        assert_eq!(read(&eight, &whole).err(), Some(DicomError::Pixels));
        // A second scan, and a restart that is missing.
        let levels = [9, 8, 7, 6];
        let mut missing = flat((32, 8), &levels, 2, 0, 63);
        let scan = missing.windows(2).position(|two| two == [0xff, SCAN]).unwrap();
        let twice = [&missing[..missing.len() - 2], &missing[scan..]].concat();
        assert_eq!(refused((32, 8), &twice), Some(DicomError::Pixels));
        let restart = missing.windows(2).position(|two| two == [0xff, 0xd0]).unwrap();
        missing.drain(restart..restart + 2);
        assert_eq!(refused((32, 8), &missing), Some(DicomError::Pixels));
    }

    #[test]
    fn whatever_stands_in_a_frame_it_is_read_or_refused() {
        let (name, size) = CODED[1];
        let whole = fixture(&format!("{name}.jpg"));
        for at in 0..whole.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= bits;
                let seen = read(&picture(size), &damaged).ok().map(|samples| samples.len());
                assert!(seen.is_none_or(|samples| samples == 33 * 19), "byte {at}");
            }
        }
    }

    fn bytes(samples: &[u16]) -> Vec<u8> {
        samples.iter().map(|&sample| sample as u8).collect()
    }
}
