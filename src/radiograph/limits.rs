//! Bounds on what is decoded, checked before anything is allocated for pixels.

use super::RadiographError;

/// Most pixels of an image where nobody says otherwise, of a request and of a file of the operator alike: what one accepts the other does.
pub const MAX_PIXELS: u64 = 64_000_000;

/// What a file may ask for. Memory for one image is bounded by `max_bytes` plus fifteen bytes a pixel (progressive JPEG of
/// four components; one to four are usual), the work by `max_pixels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Length of the file.
    pub max_bytes: usize,
    /// Width × height.
    pub max_pixels: u64,
    /// Width, and height.
    pub max_side: u32,
}

impl Default for DecodeLimits {
    /// 32 MiB, [`MAX_PIXELS`], 16,384 on a side: more than three times the largest flat-panel detector.
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            max_pixels: MAX_PIXELS,
            max_side: 16_384,
        }
    }
}

impl DecodeLimits {
    /// Refuses a file of so many bytes.
    ///
    /// # Errors
    /// [`RadiographError::TooLarge`].
    pub fn check_bytes(&self, bytes: usize) -> Result<(), RadiographError> {
        if bytes > self.max_bytes {
            return Err(RadiographError::TooLarge {
                bytes,
                max_bytes: self.max_bytes,
            });
        }
        Ok(())
    }

    /// Refuses a picture of so many pixels.
    ///
    /// # Errors
    /// [`RadiographError::TooManyPixels`].
    pub fn check_size(&self, width: u32, height: u32) -> Result<(), RadiographError> {
        if width > self.max_side || height > self.max_side || u64::from(width) * u64::from(height) > self.max_pixels {
            let Self {
                max_side, max_pixels, ..
            } = *self;
            return Err(RadiographError::TooManyPixels {
                width,
                height,
                max_side,
                max_pixels,
            });
        }
        Ok(())
    }
}
