//! The one thing of EXIF that changes the picture: its orientation.

/// How stored pixels become an upright picture: `upright(x, y)` is the stored pixel at `(x', y')`, where each mirrored
/// coordinate counts from the far end of the *upright* picture and the two are swapped afterwards if `transpose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation {
    pub(super) transpose: bool,
    pub(super) mirror_x: bool,
    pub(super) mirror_y: bool,
}

impl Orientation {
    pub(super) const UPRIGHT: Self = Self {
        transpose: false,
        mirror_x: false,
        mirror_y: false,
    };

    /// EXIF 2.32, tag 0x0112. Values outside 1 … 8 mean nothing.
    fn from_tag(value: u32) -> Option<Self> {
        let (transpose, mirror_x, mirror_y) = match value {
            1 => (false, false, false),
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => return None,
        };
        Some(Self {
            transpose,
            mirror_x,
            mirror_y,
        })
    }
}

/// Orientation in a TIFF-structured EXIF block, with or without the `Exif\0\0` prefix of JPEG. A block that is damaged
/// or says nothing leaves the picture as it is stored: orientation is advice, and no reason to refuse an image.
pub(super) fn orientation(exif: &[u8]) -> Orientation {
    first_directory_tag(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif), 0x0112)
        .and_then(Orientation::from_tag)
        .unwrap_or(Orientation::UPRIGHT)
}

/// An integer tag of the first TIFF directory.
fn first_directory_tag(tiff: &[u8], wanted: u32) -> Option<u32> {
    let little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: usize, bytes: usize| -> Option<u32> {
        let fold = |sum: u32, &byte: &u8| (sum << 8) | u32::from(byte);
        let field = tiff.get(at..at.checked_add(bytes)?)?;
        Some(if little {
            field.iter().rev().fold(0, fold)
        } else {
            field.iter().fold(0, fold)
        })
    };
    if number(2, 2)? != 42 {
        return None;
    }
    let directory = usize::try_from(number(4, 4)?).ok()?;
    let entries = number(directory, 2)? as usize;
    // At most 65,535 entries of 12 bytes; `number` ends the walk where the block ends.
    for entry in (0..entries).filter_map(|i| directory.checked_add(2 + 12 * i)) {
        if number(entry, 2)? == wanted {
            return match number(entry + 2, 2)? {
                1 => number(entry + 8, 1),
                3 => number(entry + 8, 2),
                4 => number(entry + 8, 4),
                _ => None,
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(little: bool, kind: u16, value: u16) -> Vec<u8> {
        let two = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let four = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut block = if little { b"II".to_vec() } else { b"MM".to_vec() };
        block.extend(two(42));
        block.extend(four(8));
        block.extend(two(2));
        for (tag, value) in [(0x0100, 7), (0x0112, value)] {
            block.extend(two(tag));
            block.extend(two(kind));
            block.extend(four(1));
            block.extend(two(value));
            block.extend([0, 0]);
        }
        block
    }

    #[test]
    fn orientation_is_found_in_both_byte_orders() {
        let quarter_turn = Orientation {
            transpose: true,
            mirror_x: true,
            mirror_y: false,
        };
        assert_eq!(orientation(&block(true, 3, 6)), quarter_turn);
        assert_eq!(orientation(&block(false, 3, 6)), quarter_turn);
        assert_eq!(
            orientation(&[b"Exif\0\0", &block(false, 3, 6)[..]].concat()),
            quarter_turn
        );
    }

    #[test]
    fn a_damaged_or_senseless_block_changes_nothing() {
        assert_eq!(orientation(&block(true, 3, 9)), Orientation::UPRIGHT);
        assert_eq!(orientation(&block(true, 2, 6)), Orientation::UPRIGHT);
        let whole = block(true, 3, 6);
        for end in 0..whole.len() - 4 {
            assert_eq!(orientation(&whole[..end]), Orientation::UPRIGHT, "cut at {end}");
        }
        let mut far = whole;
        far[4..8].fill(0xff);
        assert_eq!(orientation(&far), Orientation::UPRIGHT);
    }
}
