//! The elements of a DICOM file that its picture needs, as the parser takes them. The parser reads a whole file or none of it, and much of what stands
//! in files has nothing to do with their picture: what is not needed is left out unread, and what other readers pass over is mended or left out.
//!
//! Only elements at the top of the data set are looked at. From the first that makes no sense on, the file is handed over as it is, so that
//! what is wrong with it is found where it always was. Nothing here copies pixels, and lengths are never believed beyond the file's end.

use std::io::{self, Read};
use std::ops::Range;

use dicom_dictionary_std::{tags, uids};
use dicom_object::Tag;

use super::syntax::writing;
use super::writing::{
    DELIMITERS, ITEM, ITEM_END, ITEMS_END, Meta, Type, Writing, among, behind_items, header, is_known, looks, size,
    write,
};

const IMPLICIT: &[u8] = uids::IMPLICIT_VR_LITTLE_ENDIAN.as_bytes();
const EXPLICIT: &[u8] = uids::EXPLICIT_VR_LITTLE_ENDIAN.as_bytes();

/// Most pieces that a file is taken in. A sound one has less than a hundred.
const PIECES: usize = 1024;
/// Longest sequence that is written anew, in bytes. A table of 65,536 entries takes an eighth of it.
const LONGEST: usize = 1 << 20;

/// The type by the dictionary (PS3.6) of what is read of a file; nothing for all else.
fn needed(tag: Tag) -> Option<Type> {
    Some(*match tag {
        tags::SPECIFIC_CHARACTER_SET
        | tags::MODALITY
        | tags::BODY_PART_EXAMINED
        | tags::VIEW_POSITION
        | tags::PATIENT_ORIENTATION
        | tags::PHOTOMETRIC_INTERPRETATION
        | tags::VOILUT_FUNCTION
        | tags::PRESENTATION_LUT_SHAPE => b"CS",
        tags::SAMPLES_PER_PIXEL
        | tags::PLANAR_CONFIGURATION
        | tags::ROWS
        | tags::COLUMNS
        | tags::BITS_ALLOCATED
        | tags::BITS_STORED
        | tags::HIGH_BIT
        | tags::PIXEL_REPRESENTATION
        | tags::PIXEL_PADDING_VALUE
        | tags::PIXEL_PADDING_RANGE_LIMIT => b"US",
        tags::NUMBER_OF_FRAMES => b"IS",
        tags::WINDOW_CENTER | tags::WINDOW_WIDTH | tags::RESCALE_INTERCEPT | tags::RESCALE_SLOPE => b"DS",
        tags::MODALITY_LUT_SEQUENCE
        | tags::VOILUT_SEQUENCE
        | tags::VIEW_CODE_SEQUENCE
        | tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE
        | tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE => b"SQ",
        tags::PIXEL_DATA => b"OW",
        _ => return None,
    })
}

/// As [`needed`], within the sequences that are.
fn needed_within(tag: Tag) -> Option<Type> {
    Some(*match tag {
        tags::FRAME_VOILUT_SEQUENCE | tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE | tags::VOILUT_SEQUENCE => b"SQ",
        tags::WINDOW_CENTER | tags::WINDOW_WIDTH | tags::RESCALE_INTERCEPT | tags::RESCALE_SLOPE => b"DS",
        tags::VOILUT_FUNCTION => b"CS",
        tags::LUT_DESCRIPTOR => b"US",
        tags::LUT_DATA => b"OW",
        tags::CODE_VALUE | tags::CODING_SCHEME_DESIGNATOR => b"SH",
        tags::CODE_MEANING => b"LO",
        _ => return None,
    })
}

/// Items of what had no type, as explicit ones of lengths that are told, with what is needed of them alone.
fn explicit(items: &[u8], writing: Writing, depth: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < items.len() {
        let item = header(items, at, Writing::Implicit)?;
        match item.tag {
            ITEMS_END => break,
            ITEM => at = item.value,
            _ => return None,
        }
        let mut elements = Vec::new();
        while item.end.is_none_or(|end| at < end) {
            let element = header(items, at, writing)?;
            if element.tag == ITEM_END {
                at = element.value;
                break;
            }
            at = match element.end {
                Some(end) => end,
                None => behind_items(items, element.value, Some(writing))?,
            };
            if item.end.is_some_and(|end| at > end) {
                return None;
            }
            let value = &items[element.value..at];
            match needed_within(element.tag) {
                // None is deeper: a table, of a frame, of all frames.
                Some(vr) if vr == *b"SQ" && depth < 3 => {
                    let within = explicit(value, writing, depth + 1)?;
                    write(&mut elements, Writing::Explicit, element.tag, vr, &within)?;
                }
                Some(vr) if is_sound(vr, value) => write(&mut elements, Writing::Explicit, element.tag, vr, value)?,
                _ => {}
            }
        }
        write(&mut out, Writing::Explicit, ITEM, *b"UN", &elements)?;
    }
    Some(out)
}

/// Whether the parser takes a value of what is needed within sequences.
fn is_sound(vr: Type, value: &[u8]) -> bool {
    match &vr {
        b"SQ" => false,
        b"CS" => !is_blank(value),
        _ => value.len().is_multiple_of(size(vr)),
    }
}

fn is_blank(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, 0 | b' '))
}

/// Text without what fills it up.
fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0'))
}

/// The first number of a value of any type, if it is whole.
fn number(vr: Type, value: &[u8]) -> Option<i64> {
    Some(match &vr {
        b"SS" => i16::from_le_bytes(*value.first_chunk()?).into(),
        b"UL" => u32::from_le_bytes(*value.first_chunk()?).into(),
        b"SL" => i32::from_le_bytes(*value.first_chunk()?).into(),
        b"IS" | b"DS" | b"CS" | b"LO" | b"SH" | b"ST" | b"LT" | b"UT" => text(value)?.parse().ok()?,
        b"US" | b"OW" | b"OB" => u16::from_le_bytes(*value.first_chunk()?).into(),
        _ if !is_known(vr) => u16::from_le_bytes(*value.first_chunk()?).into(),
        _ => return None,
    })
}

/// What becomes of an element that is needed.
#[derive(Debug)]
enum Fate {
    /// It stays as it is.
    Same,
    /// It is left out.
    Gone,
    /// It gets another type and value.
    Mended(Type, Vec<u8>),
    /// Its value, of an odd number of bytes, gets another byte.
    Filled,
}

/// `grey`: whether the picture is known to have one sample a pixel.
fn fate(tag: Tag, vr: Type, value: &[u8], grey: bool) -> Fate {
    let Some(right) = needed(tag) else {
        return Fate::Gone;
    };
    if tag == tags::PIXEL_DATA {
        // Samples of one byte may be odd in number, but not where the parser reads words.
        let odd = vr == *b"OW" && value.len() % 2 == 1;
        return if odd { Fate::Filled } else { Fate::Same };
    }
    if value.len() > LONGEST {
        return Fate::Same;
    }
    let untyped = !is_known(vr);
    let typed = |value: &[u8]| match untyped {
        true => Fate::Mended(right, value.to_vec()),
        false => Fate::Same,
    };
    match tag {
        tags::VOILUT_FUNCTION if is_blank(value) => return Fate::Gone,
        tags::PLANAR_CONFIGURATION if grey || value.is_empty() => return Fate::Gone,
        tags::NUMBER_OF_FRAMES => {
            let text = untyped || among(b"ISDSLOSH", vr);
            let number = number(if untyped { right } else { vr }, value);
            return match number {
                _ if value.is_empty() || text && is_blank(value) => Fate::Gone,
                Some(0) => Fate::Gone,
                Some(number) if i32::try_from(number).is_ok() => typed(value),
                _ => Fate::Same,
            };
        }
        _ => {}
    }
    let padding = matches!(tag, tags::PIXEL_PADDING_VALUE | tags::PIXEL_PADDING_RANGE_LIMIT);
    match &right {
        b"SQ" if untyped => {
            let items = explicit(value, looks(value, 8), 0);
            items.map_or(Fate::Same, |items| Fate::Mended(right, items))
        }
        b"US" if untyped || vr == *b"OB" || !padding && !matches!(&vr, b"US" | b"OW") => {
            let word = number(vr, value).and_then(|number| u16::try_from(number).ok());
            word.map_or(Fate::Same, |word| Fate::Mended(right, word.to_le_bytes().to_vec()))
        }
        b"DS" | b"CS" if untyped => typed(value),
        _ => match value.len() % size(vr) {
            0 => Fate::Same,
            more if more == value.len() => Fate::Gone,
            more => Fate::Mended(vr, value[..value.len() - more].to_vec()),
        },
    }
}

/// A piece of what is parsed.
#[derive(Debug)]
enum Piece {
    /// Of the file.
    Kept(Range<usize>),
    Made(Vec<u8>),
}

/// The pieces of a data set so far.
#[derive(Debug, Default)]
struct DataSet {
    pieces: Vec<Piece>,
    grey: bool,
    /// Whether its pixels were met, and whether they are plain ones.
    pixels: Option<bool>,
}

impl DataSet {
    /// Walks over what begins at a place.
    fn walk(file: &[u8], mut at: usize, writing: Writing) -> Self {
        let mut walked = Self::default();
        while at < file.len() {
            match walked.step(file, at, writing) {
                Some(next) => at = next,
                // After the pixels there is nothing that would be missed.
                None if walked.pixels.is_some() => break,
                None => {
                    walked.keep(at..file.len());
                    break;
                }
            }
        }
        walked
    }

    fn keep(&mut self, range: Range<usize>) {
        match self.pieces.last_mut() {
            Some(Piece::Kept(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Kept(range)),
        }
    }

    /// Takes the element at a place; where the next one begins, if this one makes sense.
    fn step(&mut self, file: &[u8], at: usize, writing: Writing) -> Option<usize> {
        let element = header(file, at, writing)?;
        match element.tag {
            // One too many does no harm.
            ITEM_END => return Some(element.value),
            Tag(DELIMITERS, _) => return None,
            _ => {}
        }
        let (tag, untyped) = (element.tag, writing == Writing::Explicit && !is_known(element.vr));
        let end = match element.end {
            Some(end) => end,
            None => behind_items(file, element.value, (!untyped).then_some(writing))?,
        };
        let Some(right) = needed(tag) else {
            return Some(end);
        };
        if self.pieces.len() >= PIECES {
            return None;
        }
        let vr = if writing == Writing::Implicit {
            right
        } else {
            element.vr
        };
        let value = &file[element.value..end];
        let implicit = || looks(file, element.value + 8) == Writing::Implicit;
        let fate = match element.end {
            Some(_) => fate(tag, vr, value, self.grey),
            None if untyped && right == *b"SQ" && implicit() => match fate(tag, vr, value, self.grey) {
                // The parser would take them for explicit.
                Fate::Same => Fate::Gone,
                mended => mended,
            },
            None => Fate::Same,
        };
        match tag {
            tags::SAMPLES_PER_PIXEL => self.grey = number(vr, value) == Some(1),
            tags::PIXEL_DATA => self.pixels = Some(element.end.is_some()),
            _ => {}
        }
        match fate {
            Fate::Same => self.keep(at..end),
            Fate::Gone => {}
            Fate::Mended(vr, value) => {
                let mut made = Vec::new();
                match write(&mut made, writing, tag, vr, &value) {
                    Some(()) => self.pieces.push(Piece::Made(made)),
                    None => self.keep(at..end),
                }
            }
            Fate::Filled => {
                // The length, which is the header's last four bytes, of one byte more.
                let length = u32::try_from(value.len() + 1).ok()?.to_le_bytes();
                self.keep(at..element.value - 4);
                self.pieces.push(Piece::Made(length.to_vec()));
                self.keep(element.value..end);
                self.pieces.push(Piece::Made(vec![0]));
            }
        }
        Some(end)
    }
}

/// The pieces that a file's parser gets; nothing where it should get the file as it is.
fn pieces(file: &[u8]) -> Option<Vec<Piece>> {
    if !super::read::is_dicom(file) {
        return None;
    }
    let meta = Meta::of(file);
    if meta.foreign || meta.syntax.is_some_and(|syntax| syntax.len() > 64) {
        return None;
    }
    let (syntax, mut data_set) = match meta.syntax {
        Some(syntax) => {
            let plain = without_filling(syntax);
            match writing(plain) {
                None if meta.sound => return None,
                None => (syntax, vec![Piece::Kept(meta.end..file.len())]),
                Some(writing) => {
                    let other = if plain == IMPLICIT {
                        Some((EXPLICIT, Writing::Explicit))
                    } else if plain == EXPLICIT {
                        Some((IMPLICIT, Writing::Implicit))
                    } else {
                        None
                    };
                    let walked = DataSet::walk(file, meta.end, writing);
                    let other = other.filter(|_| walked.pixels.is_none());
                    // Some files are not written as they say.
                    let other = other.and_then(|(syntax, writing)| plain_pixels(file, meta.end, syntax, writing));
                    other.unwrap_or((syntax, walked.pieces))
                }
            }
        }
        None => plain_pixels(file, meta.end, EXPLICIT, Writing::Explicit)
            .or_else(|| plain_pixels(file, meta.end, IMPLICIT, Writing::Implicit))?,
    };
    let mut element = Vec::new();
    write(
        &mut element,
        Writing::Explicit,
        tags::TRANSFER_SYNTAX_UID,
        *b"UI",
        syntax,
    )?;
    let length = u32::try_from(element.len()).ok()?.to_le_bytes();
    let mut head = [&[0; 128][..], b"DICM"].concat();
    let length_tag = tags::FILE_META_INFORMATION_GROUP_LENGTH;
    write(&mut head, Writing::Explicit, length_tag, *b"UL", &length)?;
    head.extend(element);
    data_set.insert(0, Piece::Made(head));
    Some(data_set)
}

/// A data set that is found to be written so by its having plain pixels then.
fn plain_pixels(
    file: &[u8],
    at: usize,
    syntax: &'static [u8],
    writing: Writing,
) -> Option<(&'static [u8], Vec<Piece>)> {
    let walked = DataSet::walk(file, at, writing);
    (walked.pixels == Some(true)).then_some((syntax, walked.pieces))
}

/// Text without the blanks and noughts at its end.
fn without_filling(text: &[u8]) -> &[u8] {
    let fills = |byte: &&u8| **byte == 0 || byte.is_ascii_whitespace();
    &text[..text.len() - text.iter().rev().take_while(fills).count()]
}

/// What a file's parser reads: pieces of the file, and small ones of ours between them.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    file: &'a [u8],
    pieces: Vec<Piece>,
    /// The piece that is being read, and how far it is.
    piece: usize,
    read: usize,
}

/// The elements of a file that are needed of it, as a file.
pub(super) fn elements(file: &[u8]) -> Elements<'_> {
    Elements {
        file,
        pieces: pieces(file).unwrap_or_else(|| vec![Piece::Kept(0..file.len())]),
        piece: 0,
        read: 0,
    }
}

impl Read for Elements<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.pieces.get(self.piece) {
            let bytes = match piece {
                Piece::Kept(range) => &self.file[range.clone()],
                Piece::Made(bytes) => bytes,
            };
            let rest = &bytes[self.read..];
            if !rest.is_empty() {
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                self.read += count;
                return Ok(count);
            }
            (self.piece, self.read) = (self.piece + 1, 0);
        }
        Ok(0)
    }
}
