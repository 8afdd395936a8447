//! How elements of data sets are written in little endian (PS3.5, 7.1 and 7.5): where each begins and ends, and what is written
//! for one; and the elements before them, of a file's meta information.

use dicom_dictionary_std::tags;
use dicom_object::Tag;

pub(super) const ITEM: Tag = Tag(0xfffe, 0xe000);
pub(super) const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
pub(super) const ITEMS_END: Tag = Tag(0xfffe, 0xe0dd);
pub(super) const DELIMITERS: u16 = 0xfffe;

/// Types of values (PS3.5, 6.2): first those whose length is told by two bytes in explicit data sets.
pub(super) const SHORT: &[u8] = b"AEASATCSDADSDTFLFDISLOLTPNSHSLSSSTTMUIULUS";
const LONG: &[u8] = b"OBODOFOLOVOWSQSVUCUNURUTUV";

/// As data sets spell it.
pub(super) type Type = [u8; 2];

/// How a data set is written (PS3.5, annex A), in little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    Implicit,
    Explicit,
}

/// Whether a type is one of a list.
pub(super) fn among(list: &[u8], vr: Type) -> bool {
    list.chunks_exact(2).any(|one| one == vr)
}

/// Whether a type says what the value is.
pub(super) fn is_known(vr: Type) -> bool {
    vr != *b"UN" && (among(SHORT, vr) || among(LONG, vr))
}

/// What stands before a value (PS3.5, 7.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct ElementHeader {
    pub(super) tag: Tag,
    /// UN where none stands in the file.
    pub(super) vr: Type,
    /// Where the value begins.
    pub(super) value: usize,
    /// Where it ends, which is within the bytes; nothing if it says so itself.
    pub(super) end: Option<usize>,
}

/// The header at a place, if there is one, and the bytes hold all of its value.
pub(super) fn header(bytes: &[u8], at: usize, writing: Writing) -> Option<ElementHeader> {
    let &[g0, g1, e0, e1, a, b, c, d] = bytes.get(at..)?.first_chunk()?;
    let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
    let ending = |value: usize, length: u32| match length {
        u32::MAX => Some(None),
        _ => {
            let end = value.checked_add(usize::try_from(length).ok()?)?;
            (end <= bytes.len()).then_some(Some(end))
        }
    };
    let of = |vr, value, length| {
        let end = ending(value, length)?;
        Some(ElementHeader { tag, vr, value, end })
    };
    if writing == Writing::Implicit || tag.0 == DELIMITERS {
        return of(*b"UN", at + 8, u32::from_le_bytes([a, b, c, d]));
    }
    let (vr, short) = ([a, b], u16::from_le_bytes([c, d]));
    if among(SHORT, vr) {
        return of(vr, at + 8, short.into());
    }
    let long = bytes.get(at + 8..).and_then(|rest| rest.first_chunk());
    let header = long.and_then(|length| of(vr, at + 12, u32::from_le_bytes(*length)));
    // Some write two bytes here, too, where there should be two of nought and then four.
    let bare = short != 0 && !is_known(vr);
    header.or_else(|| if bare { of(vr, at + 8, short.into()) } else { None })
}

/// How the elements at a place look to be written: those of an item of an element without a type are implicit by PS3.5, 6.2.2, but not in all files.
pub(super) fn looks(bytes: &[u8], at: usize) -> Writing {
    let vr = at.checked_add(4).and_then(|vr| bytes.get(vr..)?.first_chunk::<2>());
    match vr {
        Some(&vr) if among(SHORT, vr) || among(LONG, vr) => Writing::Explicit,
        _ => Writing::Implicit,
    }
}

/// Where the items of an element of undefined length end, delimiter and all; `writing`: nothing where the element has no type.
///
/// What has a length is passed over, and of what has none only the depth is kept: neither time nor memory grows with it.
pub(super) fn behind_items(bytes: &[u8], mut at: usize, mut writing: Option<Writing>) -> Option<usize> {
    // Odd where an item is next, even where an element of an item is.
    let mut depth = 1usize;
    // The depth of the element without a type that this is within.
    let mut untyped = if writing.is_none() { 1 } else { 0 };
    loop {
        if depth % 2 == 1 {
            let item = header(bytes, at, Writing::Implicit)?;
            at = item.end.unwrap_or(item.value);
            match item.tag {
                ITEM if item.end.is_none() => depth += 1,
                ITEM => {}
                ITEMS_END if depth == 1 => return Some(at),
                ITEMS_END => {
                    if depth == untyped {
                        // Only within explicit elements is there one.
                        (untyped, writing) = (0, Some(Writing::Explicit));
                    }
                    depth -= 1;
                }
                _ => return None,
            }
        } else {
            let here = writing.unwrap_or_else(|| looks(bytes, at));
            let element = header(bytes, at, here)?;
            at = element.end.unwrap_or(element.value);
            match element.tag {
                ITEM_END => depth -= 1,
                Tag(DELIMITERS, _) => return None,
                _ => {
                    writing = Some(here);
                    if element.end.is_none() {
                        depth += 1;
                        if here == Writing::Explicit && !is_known(element.vr) {
                            (untyped, writing) = (depth, None);
                        }
                    }
                }
            }
        }
    }
}

/// Appends an element; nothing comes of one that is too long for its type.
pub(super) fn write(out: &mut Vec<u8>, writing: Writing, tag: Tag, vr: Type, value: &[u8]) -> Option<()> {
    let long = u32::try_from(value.len()).ok().filter(|&length| length < u32::MAX)?;
    out.extend([tag.0.to_le_bytes(), tag.1.to_le_bytes()].as_flattened());
    if writing == Writing::Implicit || tag.0 == DELIMITERS {
        out.extend(long.to_le_bytes());
    } else if among(SHORT, vr) {
        out.extend(vr);
        out.extend(u16::try_from(long).ok()?.to_le_bytes());
    } else {
        out.extend(vr);
        out.extend([0, 0]);
        out.extend(long.to_le_bytes());
    }
    out.extend(value);
    Some(())
}

/// Bytes of one number of a type.
pub(super) fn size(vr: Type) -> usize {
    match &vr {
        b"US" | b"SS" | b"OW" => 2,
        b"UL" | b"SL" | b"FL" | b"AT" | b"OL" | b"OF" => 4,
        b"FD" | b"OD" | b"SV" | b"UV" | b"OV" => 8,
        _ => 1,
    }
}

/// A file's meta information (PS3.10, 7.1), which is explicit in all files.
pub(super) struct Meta<'a> {
    /// The transfer syntax, if it is told.
    pub(super) syntax: Option<&'a [u8]>,
    /// Where its elements end.
    pub(super) end: usize,
    /// Whether one of them, from the transfer syntax on, ends where the file says that all do.
    pub(super) sound: bool,
    /// Whether that is where an element ends which should not stand here.
    pub(super) foreign: bool,
}

impl<'a> Meta<'a> {
    pub(super) fn of(file: &'a [u8]) -> Self {
        let next = |at| header(file, at, Writing::Explicit).and_then(|element| Some((element, element.end?)));
        let (mut syntax, mut told, mut sound) = (None, None, false);
        let mut end = 132;
        while let Some((element, behind)) = next(end).filter(|(element, _)| element.tag.0 == 2) {
            let value = &file[element.value..behind];
            match element.tag {
                tags::FILE_META_INFORMATION_GROUP_LENGTH => {
                    let length = value.first_chunk().map(|length| u32::from_le_bytes(*length));
                    told = length.map(|length| (behind as u64) + u64::from(length));
                }
                tags::TRANSFER_SYNTAX_UID if !sound => syntax = Some(value),
                _ => {}
            }
            end = behind;
            sound |= syntax.is_some() && told == Some(end as u64);
        }
        let mut at = end;
        while told.is_some_and(|told| (at as u64) < told) {
            let Some((_, behind)) = next(at) else { break };
            at = behind;
        }
        Self {
            syntax,
            end,
            sound,
            foreign: at > end && told == Some(at as u64),
        }
    }
}
