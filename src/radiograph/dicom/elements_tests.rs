//! Files that other readers read though something in them is not as it should be: each gives the picture that it would give without.

use std::io::Read as _;

use proptest::prelude::*;

use super::elements::elements;
use super::facts::DicomFacts;
use super::read::{DicomError, read_dicom, read_dicom_with_facts};
use super::sample::{Element, Picture, WrittenAs, element, sequence, window, words};
use crate::radiograph::DecodeLimits;

const LEVELS: [u16; 6] = [0, 500, 1000, 2000, 3000, 4095];
const PIXELS: [u8; 4] = [0xe0, 0x7f, 0x10, 0];
const ITEMS_END: [u8; 8] = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
const ITEM_END: [u8; 8] = [0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0];
const OPEN_ITEM: [u8; 8] = [0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff];
const UNDEFINED: Option<&[u8]> = None;

fn picture(more: Vec<Element>) -> Picture {
    Picture::grey((3, 2), &LEVELS, more)
}

fn sound() -> Vec<u8> {
    picture(window("1000", "1800")).plain(WrittenAs::ExplicitLittle)
}

fn seen(file: &[u8]) -> Result<Vec<u8>, DicomError> {
    read_dicom(file, &DecodeLimits::default()).map(|raster| raster.samples().to_vec())
}

/// An explicit element with four bytes of length, which may be undefined.
fn long((group, number): (u16, u16), vr: &[u8; 2], value: Option<&[u8]>) -> Vec<u8> {
    let length = value.map_or(u32::MAX, |value| value.len() as u32);
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag[..], vr, &[0, 0], &length.to_le_bytes(), value.unwrap_or_default()].concat()
}

/// One with two.
fn short((group, number): (u16, u16), vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag[..], vr, &(value.len() as u16).to_le_bytes(), value].concat()
}

/// One without a type.
fn implicit((group, number): (u16, u16), value: &[u8]) -> Vec<u8> {
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag[..], &(value.len() as u32).to_le_bytes(), value].concat()
}

fn place(file: &[u8], tag: [u8; 4]) -> usize {
    file.windows(4).position(|four| four == tag).unwrap()
}

/// A file with more before its pixels.
fn with(file: &[u8], more: &[u8]) -> Vec<u8> {
    let at = place(file, PIXELS);
    [&file[..at], more, &file[at..]].concat()
}

/// Where the data set of a file begins.
fn data_set(file: &[u8]) -> usize {
    144 + u32::from_le_bytes(*file[140..].first_chunk().unwrap()) as usize
}

#[track_caller]
fn assert_as_sound(file: &[u8]) {
    assert_eq!(seen(file), seen(&sound()));
}

#[test]
fn what_the_picture_does_not_need_does_not_keep_it_from_being_read() {
    let private = (0x29, 0x1010);
    let inner = [implicit((0x29, 0x1011), b"abcd"), implicit((8, 0x100), b"code")].concat();
    let item = implicit((0xfffe, 0xe000), &inner);
    let open = [&OPEN_ITEM[..], &inner, &ITEM_END].concat();
    let head = long(private, b"UN", UNDEFINED);
    let nested = [
        &OPEN_ITEM[..],
        &[0x29, 0, 0x12, 0x10, 0xff, 0xff, 0xff, 0xff],
        &open,
        &ITEMS_END,
        &ITEM_END,
    ]
    .concat();
    let explicit = [&OPEN_ITEM[..], &short((8, 0x100), b"SH", b"code"), &ITEM_END].concat();
    for items in [&item, &open, &nested, &explicit] {
        assert_as_sound(&with(&sound(), &[&head[..], items, &ITEMS_END].concat()));
    }
    for element in [
        long(private, b"UN", Some(b"abcd")),
        // A type that there is not, and one with the length of others.
        short(private, b"ZZ", b"abcd"),
        short(private, b"UN", b"abcd"),
        short((0x28, 0x106), b"US", b"abc"),
        short((0x18, 0x9073), b"FD", b"abcd"),
        short((0x28, 0x0009), b"AT", b"ab"),
        long((0x40, 0x275), b"SQ", Some(b"no items at all ")),
    ] {
        assert_as_sound(&with(&sound(), &element));
    }
}

#[test]
fn nesting_without_end_and_a_million_elements_are_passed_over_at_once() {
    let open = [&long((0x40, 0x275), b"SQ", UNDEFINED)[..], &OPEN_ITEM].concat();
    let close = [ITEM_END, ITEMS_END].concat();
    assert_as_sound(&with(&sound(), &[open.repeat(500_000), close.repeat(500_000)].concat()));
    let many = short((0x29, 0x1010), b"LO", b"ab").repeat(1_000_000);
    assert_as_sound(&with(&sound(), &many));
    // Those that are needed are taken as far as they are few.
    let rows = short((0x28, 0x0010), b"SS", &[2, 0]).repeat(100_000);
    let mut walked = Vec::new();
    let file = with(&sound(), &rows);
    elements(&file).read_to_end(&mut walked).unwrap();
    assert!(walked.len() <= file.len() + 200);
}

#[test]
fn what_comes_after_the_pixels_does_not_matter_unless_it_is_needed() {
    for tail in [&[0; 1][..], &[0; 512], &[0xff; 512], b"  ", &[0xfa, 0xff, 0xfa, 0xff]] {
        assert_as_sound(&[&sound()[..], tail].concat());
    }
    // Out of order, as some write them.
    let bare = picture(Vec::new()).plain(WrittenAs::ExplicitLittle);
    let window = [
        short((0x28, 0x1050), b"DS", b"1000"),
        short((0x28, 0x1051), b"DS", b"1800"),
    ]
    .concat();
    assert_as_sound(&[bare, window].concat());
}

#[test]
fn the_length_of_the_meta_information_is_not_needed() {
    for written_as in [
        WrittenAs::ExplicitLittle,
        WrittenAs::ImplicitLittle,
        WrittenAs::ExplicitBig,
    ] {
        let file = picture(window("1000", "1800")).plain(written_as);
        let missing = [&file[..132], &file[144..]].concat();
        assert_as_sound(&missing);
        for length in [0u32, 60, 150, 500, u32::MAX] {
            let mut wrong = file.clone();
            wrong[140..144].copy_from_slice(&length.to_le_bytes());
            assert_as_sound(&wrong);
        }
    }
    let deflated = picture(window("1000", "1800")).deflated();
    assert_as_sound(&[&deflated[..132], &deflated[144..]].concat());
}

#[test]
fn a_data_set_that_is_not_written_as_its_file_says_is_read_as_it_is_written() {
    let explicit = sound();
    let implicit = picture(window("1000", "1800")).plain(WrittenAs::ImplicitLittle);
    let swapped = |head: &[u8], body: &[u8]| [&head[..data_set(head)], &body[data_set(body)..]].concat();
    assert_as_sound(&swapped(&explicit, &implicit));
    assert_as_sound(&swapped(&implicit, &explicit));
    let syntax = place(&explicit, [2, 0, 0x10, 0]);
    let without = [&explicit[..syntax], &explicit[syntax + 8 + 20..]].concat();
    assert_as_sound(&without);
}

#[test]
fn numbers_that_the_pixels_need_are_read_of_any_type() {
    let file = sound();
    let at = place(&file, [0x28, 0, 0x10, 0]);
    for rows in [
        short((0x28, 0x10), b"SS", &[2, 0]),
        short((0x28, 0x10), b"UL", &[2, 0, 0, 0]),
        short((0x28, 0x10), b"IS", b"2 "),
        short((0x28, 0x10), b"US", &[2, 0, 7]),
        long((0x28, 0x10), b"UN", Some(&[2, 0])),
    ] {
        assert_as_sound(&[&file[..at], &rows, &file[at + 10..]].concat());
    }
    let none = [
        &file[..at],
        &short((0x28, 0x10), b"SS", &[0xff, 0xff]),
        &file[at + 10..],
    ]
    .concat();
    assert!(seen(&none).is_err());
}

#[test]
fn what_is_empty_or_says_nothing_is_passed_over() {
    for more in [
        element((0x28, 0x1056), "CS", b""),
        element((0x28, 0x1056), "CS", b"  "),
        element((0x28, 0x0006), "US", b""),
        words((0x28, 0x0006), "US", &[1]),
        element((0x28, 0x0008), "IS", b""),
        element((0x28, 0x0008), "IS", b"0 "),
    ] {
        for written_as in [WrittenAs::ExplicitLittle, WrittenAs::ImplicitLittle] {
            let file = picture([window("1000", "1800"), vec![more.clone()]].concat()).plain(written_as);
            assert_eq!(seen(&file), seen(&sound()), "{more:?}");
        }
    }
}

#[test]
fn an_odd_number_of_samples_of_a_byte_is_read_without_what_fills_it_up() {
    let odd = Picture {
        allocated: 8,
        stored: 8,
        ..Picture::grey((3, 1), &[1, 128, 255], window("128 ", "256 "))
    };
    for written_as in [WrittenAs::ExplicitLittle, WrittenAs::ImplicitLittle] {
        let mut file = odd.plain(written_as);
        if written_as == WrittenAs::ExplicitLittle {
            let at = place(&file, PIXELS);
            file[at + 5] = b'W';
        }
        assert_eq!(seen(&file), Ok(vec![1, 128, 255]));
    }
}

#[test]
fn what_has_lost_its_type_gets_it_back() {
    let bare = picture(Vec::new()).plain(WrittenAs::ExplicitLittle);
    let centre = long((0x28, 0x1050), b"UN", Some(b"1000"));
    assert_as_sound(&with(
        &bare,
        &[centre, long((0x28, 0x1051), b"UN", Some(b"1800"))].concat(),
    ));
    let part = with(&sound(), &long((0x18, 0x15), b"UN", Some(b"CHEST ")));
    let facts = read_dicom_with_facts(&part, &DecodeLimits::default()).unwrap().1;
    assert_eq!(facts, DicomFacts::default());

    let entries: Vec<u16> = (0..4096).map(|at: u32| (at * at / 4095) as u16).collect();
    let data: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let tables = (0x28, 0x3010);
    let typed = sequence(
        tables,
        &[
            words((0x28, 0x3002), "US", &[4096, 0, 12]),
            words((0x28, 0x3006), "OW", &entries),
        ],
    );
    let right = seen(&picture(vec![typed]).plain(WrittenAs::ExplicitLittle)).unwrap();
    let table = [
        implicit((0x28, 0x3002), &[0, 16, 0, 0, 12, 0]),
        implicit((0x28, 0x3003), b"of no use"),
        implicit((0x28, 0x3006), &data),
    ]
    .concat();
    let item = implicit((0xfffe, 0xe000), &table);
    let open = [&OPEN_ITEM[..], &table, &ITEM_END].concat();
    for items in [&item, &open] {
        assert_eq!(seen(&with(&bare, &long(tables, b"UN", Some(items)))), Ok(right.clone()));
        let undefined = [&long(tables, b"UN", UNDEFINED)[..], items, &ITEMS_END].concat();
        assert_eq!(seen(&with(&bare, &undefined)), Ok(right.clone()));
    }
    // Not a sequence: as if it were not there.
    let nonsense = long(tables, b"UN", Some(&[7; 64]));
    assert_eq!(seen(&with(&bare, &nonsense)), seen(&bare));
}

#[test]
fn a_length_that_leads_out_of_the_file_is_refused_as_ever() {
    let mut lie = long((0x29, 0x1010), b"OB", Some(b"ab"));
    lie[8..12].copy_from_slice(&0x00ff_fffeu32.to_le_bytes());
    assert_eq!(seen(&with(&sound(), &lie)), Err(DicomError::Attributes));
    let unclosed = [&long((0x40, 0x275), b"SQ", UNDEFINED)[..], &OPEN_ITEM].concat();
    assert!(seen(&with(&sound(), &unclosed)).is_err());
}

#[test]
fn coded_pixels_keep_their_fragments() {
    let file = picture(Vec::new()).coded("1.2.840.10008.1.2.5", &[7; 100]);
    let mut walked = Vec::new();
    let longer = [&file[..], &[0; 99]].concat();
    elements(&longer).read_to_end(&mut walked).unwrap();
    assert_eq!(walked[place(&walked, PIXELS)..], file[place(&file, PIXELS)..]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_walked_over_and_grow_by_little(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut file = sound();
        for (place, value) in &edits {
            let place = 132 + place.index(file.len() - 132);
            file[place] = *value;
        }
        match whole {
            true => file.truncate(132 + cut.index(file.len() - 132)),
            false => file.splice(132 + cut.index(file.len() - 132).., bytes).for_each(drop),
        }
        let mut walked = Vec::new();
        elements(&file).read_to_end(&mut walked).unwrap();
        prop_assert!(walked.len() <= file.len() + file.len() / 2 + 256);
    }

    #[test]
    fn elements_of_no_use_change_no_pixel(
        (width, height) in (1u16..9, 1u16..9),
        seed in any::<u16>(),
        more in prop::collection::vec((0x29u16..0x5000, any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..9),
        written_as in prop::sample::select(vec![WrittenAs::ImplicitLittle, WrittenAs::ExplicitLittle]),
    ) {
        let samples: Vec<u16> = (0..width * height).map(|at| seed.wrapping_mul(at) % 4096).collect();
        let file = Picture::grey((width, height), &samples, window("1000", "1800")).plain(written_as);
        let unused = more.iter().flat_map(|(group, number, value)| match written_as {
            // None that is needed has an odd group.
            WrittenAs::ImplicitLittle => implicit((group | 1, *number), value),
            _ => long((group | 1, *number), b"UN", Some(value)),
        });
        prop_assert_eq!(seen(&with(&file, &unused.collect::<Vec<u8>>())), seen(&file));
    }
}
