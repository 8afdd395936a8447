//! Many pictures on one.

use super::{Phantom, PhantomError};
use crate::radiograph::{ImageFormat, Pixels, write};

/// A PNG file with the first `count` studies, six in a row.
///
/// # Errors
/// [`PhantomError::Picture`] when the sheet cannot be encoded, [`PhantomError::NoStudies`] when `count` is 0.
pub fn contact_sheet(phantom: &Phantom, count: u64) -> Result<Vec<u8>, PhantomError> {
    let columns = 6.min(count as usize);
    if columns == 0 {
        return Err(PhantomError::NoStudies);
    }
    let (side, rows) = (phantom.size, (count as usize).div_ceil(columns));
    let stride = columns * side * 3;
    let mut rgb = vec![0; stride * rows * side];
    for index in 0..count {
        let study = phantom.study(index);
        let at = index as usize;
        let corner = at / columns * side * stride + at % columns * side * 3;
        for (row, line) in study.pixels.rgb().chunks_exact(side * 3).enumerate() {
            let from = corner + row * stride;
            if let Some(place) = rgb.get_mut(from..from + line.len()) {
                place.copy_from_slice(line);
            }
        }
    }
    let pixels = Pixels::new(columns * side, rows * side, rgb).ok_or(PhantomError::NoStudies)?;
    Ok(write(
        &pixels,
        ImageFormat::Png,
        &[("Comment", "synthetic radiographs")],
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::{DecodeLimits, Preprocess, read};

    #[test]
    fn a_sheet_has_six_studies_in_a_row_in_order_and_black_where_there_are_none() {
        let side = 64;
        let phantom = Phantom::new(3, side).unwrap();
        let file = contact_sheet(&phantom, 8).unwrap();
        let sheet = read(&file, &DecodeLimits::default(), Preprocess::Default).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (384, 128));
        let first = |pixel: &[u8]| pixel[0];
        let levels: Vec<u8> = sheet
            .samples()
            .chunks_exact(sheet.channels().count())
            .map(first)
            .collect();
        for tile in 0..12 {
            let (left, top) = (tile % 6 * side, tile / 6 * side);
            let line = |row: usize| &levels[(top + row) * 384 + left..][..side];
            let seen: Vec<u8> = (0..side).flat_map(line).copied().collect();
            let expected: Vec<u8> = match tile {
                0..8 => {
                    let study = phantom.study(tile as u64);
                    study.pixels.rgb().chunks_exact(3).map(first).collect()
                }
                _ => vec![0; side * side],
            };
            assert!(seen == expected, "tile {tile}");
        }
        assert!(matches!(contact_sheet(&phantom, 0), Err(PhantomError::NoStudies)));
    }
}
