//! The plain raster that crosses the walls: 8-bit RGB, rows from the top, no tensors.

/// An 8-bit RGB raster, `height × width × 3` bytes, rows from the top.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Pixels {
    /// Wraps `rgb` (`height × width × 3` bytes, row-major). `None` when the length does not fit the size.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Option<Self> {
        (width.checked_mul(height)?.checked_mul(3)? == rgb.len()).then_some(Self { width, height, rgb })
    }

    /// `side × side` pixels; `rgb` is cut or filled up with black to `side × side × 3` bytes.
    pub(super) fn square(side: usize, mut rgb: Vec<u8>) -> Self {
        rgb.resize(side * side * 3, 0);
        Self {
            width: side,
            height: side,
            rgb,
        }
    }

    /// The same, moved `right` and `down` by so many pixels; what comes in at an edge is the edge's own pixel.
    pub fn moved(&self, right: i32, down: i32) -> Self {
        let row = 3 * self.width;
        let edge = 3 * (right.unsigned_abs() as usize).min(self.width);
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for y in 0..self.height {
            let from = (y as i64 - i64::from(down)).clamp(0, self.height as i64 - 1) as usize;
            let row = &self.rgb[from * row..(from + 1) * row];
            if right > 0 {
                rgb.extend(row.iter().take(3).cycle().take(edge));
                rgb.extend_from_slice(&row[..row.len() - edge]);
            } else {
                rgb.extend_from_slice(&row[edge..]);
                rgb.extend(row.iter().skip(row.len().saturating_sub(3)).cycle().take(edge));
            }
        }
        Self { rgb, ..*self }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes: `height × width × 3`, row-major.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Whether all pixels are alike, so that there is nothing to be seen.
    pub fn are_alike(&self) -> bool {
        self.rgb.as_chunks::<3>().0.windows(2).all(|two| two[0] == two[1])
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.rgb.len()
    }
}

impl std::fmt::Debug for Pixels {
    /// Never prints the pixels: they are patient data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({}×{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_one_colour_are_alike_and_one_that_differs_is_seen() {
        let mut rgb = [7u8, 8, 9].repeat(6);
        let alike = |rgb: &[u8]| Pixels::new(3, 2, rgb.to_vec()).unwrap().are_alike();
        assert!(alike(&rgb));
        rgb[17] = 10;
        assert!(!alike(&rgb));
    }

    #[test]
    fn what_is_moved_leaves_its_edge_behind() {
        let grey = |values: [u8; 6]| Pixels::new(3, 2, values.iter().flat_map(|v| [*v; 3]).collect()).unwrap();
        let image = grey([1, 2, 3, 4, 5, 6]);
        assert_eq!(image.moved(0, 0), image);
        assert_eq!(image.moved(1, 0), grey([1, 1, 2, 4, 4, 5]));
        assert_eq!(image.moved(-1, 1), grey([2, 3, 3, 2, 3, 3]));
        assert_eq!(image.moved(9, -9), grey([4, 4, 4, 4, 4, 4]));
        let empty = Pixels::new(0, 0, Vec::new()).unwrap();
        assert_eq!(empty.moved(1, 1), empty);
    }
}
