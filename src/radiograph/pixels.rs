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
