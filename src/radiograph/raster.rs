//! A decoded image before it is fitted to the model.

use super::exif::Orientation;

/// Samples per pixel of a [`Raster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: red = green = blue. Most radiographs; a third of the work.
    Grey,
    /// Red, green, blue.
    Rgb,
}

impl Channels {
    /// Samples per pixel.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }
}

/// An 8-bit image of any size, `height × width × channels` bytes, rows from the top. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Raster {
    width: usize,
    height: usize,
    channels: Channels,
    samples: Vec<u8>,
}

impl Raster {
    /// Wraps `samples` (`height × width × channels` bytes, row-major). `None` when the length does not fit the size or
    /// there is no pixel.
    pub fn new(width: usize, height: usize, channels: Channels, samples: Vec<u8>) -> Option<Self> {
        let fits = width.checked_mul(height)?.checked_mul(channels.count())? == samples.len() && !samples.is_empty();
        fits.then_some(Self {
            width,
            height,
            channels,
            samples,
        })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Grey or RGB.
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// The bytes: `height × width × channels`, row-major.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// One row: `width × channels` bytes. Panics when `y ≥ height`.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.channels.count();
        &self.samples[y * stride..][..stride]
    }

    /// Turned and mirrored so that it is upright.
    pub(super) fn upright(self, orientation: Orientation) -> Self {
        if orientation == Orientation::UPRIGHT {
            return self;
        }
        match self.channels {
            Channels::Grey => self.turned::<1>(orientation),
            Channels::Rgb => self.turned::<3>(orientation),
        }
    }

    fn turned<const N: usize>(self, orientation: Orientation) -> Self {
        let (width, height) = match orientation.transpose {
            true => (self.height, self.width),
            false => (self.width, self.height),
        };
        let (source, _) = self.samples.as_chunks::<N>();
        let mut samples = vec![0; self.samples.len()];
        let (target, _) = samples.as_chunks_mut::<N>();
        // Tiles, because a transposition would otherwise miss the cache at every pixel.
        const TILE: usize = 32;
        for top in (0..height).step_by(TILE) {
            for left in (0..width).step_by(TILE) {
                for y in top..(top + TILE).min(height) {
                    for x in left..(left + TILE).min(width) {
                        let x_from = if orientation.mirror_x { width - 1 - x } else { x };
                        let y_from = if orientation.mirror_y { height - 1 - y } else { y };
                        let from = match orientation.transpose {
                            true => x_from * self.width + y_from,
                            false => y_from * self.width + x_from,
                        };
                        target[y * width + x] = source[from];
                    }
                }
            }
        }
        Self {
            width,
            height,
            channels: self.channels,
            samples,
        }
    }
}

impl std::fmt::Debug for Raster {
    /// Never prints the pixels: they are patient data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Raster({}×{} {:?})", self.width, self.height, self.channels)
    }
}
