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
