//! What a file says of how it is shown, each in a file of its own.

use super::read::{DicomError, PixelAttribute, read_dicom};
use super::sample::{Element, Picture, WrittenAs, element, sequence, window, words};
use super::syntax::PixelForm;
use crate::radiograph::DecodeLimits;

const DESCRIPTOR: (u16, u16) = (0x28, 0x3002);
const DATA: (u16, u16) = (0x28, 0x3006);
const MODALITY_TABLES: (u16, u16) = (0x28, 0x3000);
const INTEREST_TABLES: (u16, u16) = (0x28, 0x3010);

fn outcome(picture: &Picture) -> Result<Vec<u8>, DicomError> {
    let file = picture.plain(WrittenAs::ExplicitLittle);
    read_dicom(&file, &DecodeLimits::default()).map(|raster| raster.samples().to_vec())
}

/// One row.
fn grey(samples: &[u16], more: Vec<Element>) -> Picture {
    Picture::grey((samples.len() as u16, 1), samples, more)
}

fn shown(samples: &[u16], more: Vec<Element>) -> Vec<u8> {
    outcome(&grey(samples, more)).unwrap()
}

/// A sequence of one table: its number of entries, the first value mapped, bits of an entry.
fn table(tables: (u16, u16), vr: &'static str, descriptor: [u16; 3], entries: &[u16]) -> Element {
    sequence(
        tables,
        &[words(DESCRIPTOR, vr, &descriptor), words(DATA, "OW", entries)],
    )
}

fn rescale(slope: &str, intercept: &str) -> Vec<Element> {
    vec![
        element((0x28, 0x1052), "DS", intercept.as_bytes()),
        element((0x28, 0x1053), "DS", slope.as_bytes()),
    ]
}

#[test]
fn rescale_comes_before_the_window() {
    let pixels = [0, 911, 912, 962, 1012, 1062, 1112, 4095];
    let more = [rescale("2 ", "-1024 "), window("1000", "400 ")].concat();
    for (pixel, seen) in pixels.into_iter().zip(shown(&pixels, more)) {
        let value = 2.0 * f64::from(pixel) - 1024.0;
        // PS3.3 C.11.2.1.2.1.
        let right = (((value - 999.5) / 399.0 + 0.5) * 255.0).clamp(0.0, 255.0);
        assert!((f64::from(seen) - right).abs() < 0.51, "{pixel}: {seen}, not {right}");
    }
}

#[test]
fn a_negative_slope_turns_the_picture_over() {
    let pixels = [0, 1000, 2000, 4000];
    assert_eq!(shown(&pixels, rescale("-1", "4000")), [255, 191, 128, 0]);
    assert_eq!(shown(&pixels, rescale("1 ", "4000")), [0, 64, 128, 255]);
}

#[test]
fn padding_of_the_file_is_black_and_no_part_of_the_range() {
    let padding = |value: u16| words((0x28, 0x120), "US", &[value]);
    let limit = |value: u16| words((0x28, 0x121), "US", &[value]);
    let pixels = [4095, 4000, 100, 200];
    assert_eq!(shown(&pixels, vec![padding(4095)]), [0, 255, 0, 7]);
    assert_eq!(shown(&pixels, vec![padding(4095), limit(4000)]), [0, 0, 0, 255]);
    assert_eq!(shown(&pixels, vec![padding(4000), limit(4095)]), [0, 0, 0, 255]);
    let inverted = Picture {
        photometric: "MONOCHROME1 ",
        ..grey(&[4095, 150, 100, 200], vec![padding(4095)])
    };
    assert_eq!(outcome(&inverted), Ok(vec![0, 127, 255, 0]));
    // Of signed pixels, whichever type the file calls it.
    for vr in ["SS", "US"] {
        let signed = Picture {
            signed: true,
            ..grey(
                &[-2000i16 as u16, 0, 500, 1000],
                vec![words((0x28, 0x120), vr, &[-2000i16 as u16])],
            )
        };
        assert_eq!(outcome(&signed), Ok(vec![0, 0, 128, 255]), "{vr}");
    }
}

#[test]
fn a_table_of_interest_is_looked_up_and_goes_before_a_window() {
    let mut more = window("2048", "4096");
    more.push(table(INTEREST_TABLES, "US", [3, 100, 8], &[10, 200, 60]));
    assert_eq!(shown(&[0, 100, 101, 102, 4095], more), [10, 10, 200, 60, 60]);
    let wide = table(INTEREST_TABLES, "US", [3, 7, 16], &[0, 0x8000, 0xffff]);
    assert_eq!(shown(&[7, 8, 9], vec![wide]), [0, 128, 255]);
    // 65,536 entries are written as 0.
    let falling: Vec<u16> = (0..=u16::MAX).rev().collect();
    let whole = table(INTEREST_TABLES, "US", [0, 0, 16], &falling);
    assert_eq!(shown(&[0, 4095], vec![whole]), [255, 239]);
}

#[test]
fn a_table_of_bytes_may_have_two_of_them_in_a_word() {
    let packed = |bytes: [u8; 4]| [[bytes[0], bytes[1]], [bytes[2], bytes[3]]].map(u16::from_le_bytes);
    let even = table(INTEREST_TABLES, "US", [4, 7, 8], &packed([10, 200, 60, 90]));
    assert_eq!(shown(&[0, 7, 8, 9, 10, 11], vec![even]), [10, 10, 200, 60, 90, 90]);
    let odd = table(INTEREST_TABLES, "US", [3, 7, 8], &packed([10, 200, 60, 0]));
    assert_eq!(shown(&[7, 8, 9, 10], vec![odd]), [10, 200, 60, 60]);
    let modality = table(MODALITY_TABLES, "US", [4, 0, 8], &packed([30, 10, 20, 10]));
    assert_eq!(shown(&[0, 1, 2], vec![modality]), [255, 0, 128]);
    // Called bytes, or nothing.
    for vr in ["OB", "UN"] {
        let bytes = [
            words(DESCRIPTOR, "US", &[3, 7, 8]),
            element(DATA, vr, &[10, 200, 60, 0]),
        ];
        let bytes = sequence(INTEREST_TABLES, &bytes);
        assert_eq!(shown(&[7, 8, 9, 10], vec![bytes]), [10, 200, 60, 60], "{vr}");
    }
    let untyped = [
        words(DESCRIPTOR, "US", &[2, 7, 16]),
        element(DATA, "UN", &[0, 0x80, 0xff, 0xff]),
    ];
    assert_eq!(shown(&[7, 8], vec![sequence(INTEREST_TABLES, &untyped)]), [128, 255]);
}

#[test]
fn a_table_that_ends_too_early_goes_on_with_its_last_entry() {
    let short = table(INTEREST_TABLES, "US", [8, 0, 8], &[10, 200, 60]);
    assert_eq!(shown(&[0, 1, 2, 3, 7, 8], vec![short]), [10, 200, 60, 60, 60, 60]);
}

#[test]
fn a_table_without_its_numbers_is_none_and_the_window_beside_it_counts() {
    let pixels = [0, 911, 1000, 1100, 4095];
    let right = shown(&pixels, window("1000", "400 "));
    let descriptor = || words(DESCRIPTOR, "US", &[3, 0, 8]);
    let data = |entries: &[u16]| words(DATA, "OW", entries);
    for parts in [
        vec![],
        vec![descriptor()],
        vec![data(&[1, 2, 3])],
        vec![descriptor(), data(&[])],
        vec![words(DESCRIPTOR, "US", &[]), data(&[1, 2, 3])],
    ] {
        for tables in [MODALITY_TABLES, INTEREST_TABLES] {
            let mut more = window("1000", "400 ");
            more.push(sequence(tables, &parts));
            assert_eq!(shown(&pixels, more), right, "{parts:?}");
        }
    }
}

#[test]
fn a_window_of_no_known_type_is_none() {
    let pixels = [0, 100, 1000, 4000];
    let untyped = |number: u16| element((0x28, number), "UN", b"none");
    let typed = |number: u16| element((0x28, number), "DS", b"100 ");
    let right = shown(&pixels, Vec::new());
    for (centre, width) in [
        (untyped(0x1050), untyped(0x1051)),
        (typed(0x1050), untyped(0x1051)),
        (untyped(0x1050), typed(0x1051)),
    ] {
        assert_eq!(shown(&pixels, vec![centre, width]), right);
    }
}

#[test]
fn eight_bits_without_a_window_are_shown_as_they_are_and_more_by_the_range_in_use() {
    let eight = |samples: &[u16], signed: bool, more: Vec<Element>| Picture {
        allocated: 8,
        stored: 8,
        signed,
        ..grey(samples, more)
    };
    let plain = eight(&[10, 90, 200, 201], false, Vec::new());
    assert_eq!(outcome(&plain), Ok(vec![10, 90, 200, 201]));
    let inverted = Picture {
        photometric: "MONOCHROME1 ",
        ..plain.clone()
    };
    assert_eq!(outcome(&inverted), Ok(vec![245, 165, 55, 54]));
    let in_sixteen = Picture { allocated: 16, ..plain };
    assert_eq!(outcome(&in_sixteen), Ok(vec![10, 90, 200, 201]));
    // −128, −1, 0, 127.
    let signed = eight(&[0x80, 0xff, 0, 0x7f], true, Vec::new());
    assert_eq!(outcome(&signed), Ok(vec![0, 127, 128, 255]));
    // Values of another kind.
    let rescaled = eight(&[10, 20, 30, 30], false, rescale("2 ", "0 "));
    assert_eq!(outcome(&rescaled), Ok(vec![0, 128, 255, 255]));
    assert_eq!(shown(&[10, 20, 30], Vec::new()), [0, 128, 255]);
}

#[test]
fn the_shape_of_the_presentation_says_whether_the_picture_is_turned_over_before_its_photometric_interpretation() {
    for (photometric, shape, turned) in [
        ("MONOCHROME1 ", "INVERSE ", true),
        ("MONOCHROME1 ", "IDENTITY", false),
        ("MONOCHROME2 ", "INVERSE ", true),
        ("MONOCHROME2 ", "IDENTITY", false),
        ("MONOCHROME1 ", "LIN OD", true),
        ("MONOCHROME2 ", "LIN OD", false),
        ("MONOCHROME1 ", "", true),
    ] {
        let picture = Picture {
            photometric,
            ..grey(&[0, 1000, 4000], vec![element((0x2050, 0x20), "CS", shape.as_bytes())])
        };
        let right = if turned { vec![255, 191, 0] } else { vec![0, 64, 255] };
        assert_eq!(outcome(&picture), Ok(right), "{photometric}{shape}");
    }
}

#[test]
fn a_photometric_interpretation_in_small_letters_is_read() {
    for (photometric, right) in [("monochrome1 ", [255, 0]), ("Monochrome2 ", [0, 255])] {
        let picture = Picture {
            photometric,
            ..grey(&[0, 4000], Vec::new())
        };
        assert_eq!(outcome(&picture), Ok(right.to_vec()), "{photometric}");
    }
}

#[test]
fn without_a_high_bit_the_lowest_bits_are_those_that_count() {
    let whole = grey(&[0, 1000, 4000], Vec::new()).plain(WrittenAs::ExplicitLittle);
    let at = whole.windows(4).position(|four| four == [0x28, 0, 0x02, 0x01]).unwrap();
    let missing = [&whole[..at], &whole[at + 10..]].concat();
    let empty = [&whole[..at + 6], &[0, 0], &whole[at + 10..]].concat();
    for file in [missing, empty] {
        let read = read_dicom(&file, &DecodeLimits::default()).unwrap();
        assert_eq!(read.samples(), [0, 64, 255]);
    }
}

#[test]
fn a_table_of_no_bits_or_too_many_is_damage() {
    for descriptor in [[3, 0, 0], [3, 0, 17]] {
        for tables in [MODALITY_TABLES, INTEREST_TABLES] {
            let broken = grey(&[0, 1], vec![table(tables, "US", descriptor, &[1, 2, 3])]);
            assert_eq!(outcome(&broken), Err(DicomError::Pixels), "{descriptor:?}");
        }
    }
}

#[test]
fn a_modality_table_comes_before_what_is_of_interest() {
    let modality = table(MODALITY_TABLES, "US", [4, 1000, 12], &[100, 300, 200, 400]);
    let pixels = [0, 1000, 1001, 1002, 1003, 4095];
    let mut more = vec![modality];
    assert_eq!(shown(&pixels, more.clone()), [0, 0, 170, 85, 255, 255]);
    more.extend(window("200 ", "1 "));
    assert_eq!(shown(&pixels, more), [0, 0, 255, 255, 255, 255]);
}

#[test]
fn a_table_of_interest_begins_in_the_type_of_what_goes_into_it() {
    // Below nought by the rescale, though the pixels are not.
    for vr in ["SS", "US"] {
        let mut more = rescale("1 ", "-1024 ");
        more.push(table(INTEREST_TABLES, vr, [3, -24i16 as u16, 8], &[0, 128, 255]));
        assert_eq!(shown(&[0, 1000, 1001, 1002, 1500], more), [0, 0, 128, 255, 255], "{vr}");
    }
    // What a table gives is never below nought, though the pixels are.
    let signed = Picture {
        signed: true,
        ..grey(
            &[-1i16 as u16, 0, 1],
            vec![
                table(MODALITY_TABLES, "SS", [3, -1i16 as u16, 16], &[49_999, 50_000, 50_001]),
                table(INTEREST_TABLES, "US", [3, 49_999, 8], &[0, 100, 255]),
            ],
        )
    };
    assert_eq!(outcome(&signed), Ok(vec![0, 100, 255]));
}

#[test]
fn the_function_of_the_window_is_taken_from_the_file() {
    let through = |function: &str, centre: &str, width: &str, pixels: &[u16]| {
        let mut more = window(centre, width);
        more.push(element((0x28, 0x1056), "CS", function.as_bytes()));
        shown(pixels, more)
    };
    let pixels = [7, 8, 9, 10, 11, 12];
    assert_eq!(through("LINEAR", "10", "4 ", &pixels), [0, 0, 85, 170, 255, 255]);
    assert_eq!(through("LINEAR_EXACT", "10", "4 ", &pixels), [0, 0, 64, 128, 191, 255]);
    let pixels = [0, 50, 100, 125, 200];
    for (pixel, seen) in pixels.into_iter().zip(through("SIGMOID ", "100 ", "50", &pixels)) {
        // PS3.3 C.11.2.1.3.1.
        let right = 255.0 / (1.0 + (-4.0 * (f64::from(pixel) - 100.0) / 50.0).exp());
        assert!((f64::from(seen) - right).abs() < 0.51, "{pixel}: {seen}, not {right}");
    }
}

#[test]
fn a_hot_pixel_of_a_file_without_a_window_leaves_all_others_as_they_are() {
    let picture = |samples: &[u16]| Picture {
        stored: 16,
        ..Picture::grey((64, 64), samples, rescale("2 ", "-1024 "))
    };
    let mut samples: Vec<u16> = (0..4096).map(|i| 300 + i * 7 % 3500).collect();
    let before = outcome(&picture(&samples)).unwrap();
    (samples[9], samples[99]) = (65_535, 0);
    let after = outcome(&picture(&samples)).unwrap();
    assert_eq!((after[9], after[99]), (255, 0));
    let changed = before
        .iter()
        .zip(&after)
        .filter(|(one, other)| one.abs_diff(**other) > 1);
    assert!(changed.count() <= 2);
}

#[test]
fn what_pixels_cannot_be_read_without_is_named_where_it_is_missing_or_empty() {
    let whole = grey(&[0, 1, 2, 3], Vec::new()).plain(WrittenAs::ExplicitLittle);
    for (number, attribute) in [
        (0x0002u16, PixelAttribute::SamplesPerPixel),
        (0x0004, PixelAttribute::PhotometricInterpretation),
        (0x0010, PixelAttribute::Rows),
        (0x0011, PixelAttribute::Columns),
        (0x0100, PixelAttribute::BitsAllocated),
        (0x0101, PixelAttribute::BitsStored),
        (0x0103, PixelAttribute::PixelRepresentation),
    ] {
        let [low, high] = number.to_le_bytes();
        let at = whole.windows(4).position(|four| four == [0x28, 0, low, high]).unwrap();
        let behind = &whole[at + 8 + usize::from(whole[at + 6])..];
        let missing = [&whole[..at], behind].concat();
        let empty = [&whole[..at + 6], &[0, 0], behind].concat();
        for file in [missing, empty] {
            let refused = read_dicom(&file, &DecodeLimits::default()).err().unwrap();
            assert_eq!(refused, DicomError::Lacks(attribute));
            assert!(refused.to_string().contains(&format!("`{attribute:?}`")), "{refused}");
        }
    }
}

#[test]
fn samples_of_a_size_that_is_not_read_are_refused_for_their_size() {
    for (allocated, channels, photometric) in [
        (1, 1, "MONOCHROME2 "),
        (12, 1, "MONOCHROME2 "),
        (32, 1, "MONOCHROME1 "),
        (16, 3, "RGB "),
    ] {
        let picture = Picture {
            allocated,
            channels,
            photometric,
            ..grey(&[0; 24], Vec::new())
        };
        assert_eq!(outcome(&picture), Err(DicomError::Depth(allocated.into())));
    }
    let palette = Picture {
        photometric: "PALETTE COLOR ",
        ..grey(&[0, 1], Vec::new())
    };
    assert_eq!(outcome(&palette), Err(DicomError::Form(PixelForm::Colours)));
}
