//! What one request may ask for, before any of it is worked on.

use super::{Options, ServiceError};
use crate::model::bundle::{GUIDANCE, READINGS};

/// Seeds are below this, so that a JSON reader that knows only doubles keeps them.
pub const SEED_END: u64 = 1 << 53;

/// What one request may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of UTF-8 in one text.
    pub text_bytes: usize,
    /// Most questions in one request.
    pub questions: usize,
    /// Most images, or choices, in one request.
    pub images: usize,
    /// Most stop texts.
    pub stops: usize,
    /// Most bytes of UTF-8 in one of them.
    pub stop_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 32 << 10,
            questions: 16,
            images: 8,
            stops: 4,
            stop_bytes: 256,
        }
    }
}

impl Limits {
    /// Most readings of one image.
    pub fn readings(&self) -> usize {
        *READINGS.end()
    }

    pub(super) fn check_options(&self, options: &Options) -> Result<(), ServiceError> {
        if options.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err(ServiceError::parameter(
                "temperature",
                "`temperature` must be from 0 (greedy) to 2",
            ));
        }
        if options.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(ServiceError::parameter(
                "top_p",
                "`top_p` must be above 0 and at most 1 (off)",
            ));
        }
        if options.guidance.is_some_and(|g| !GUIDANCE.contains(&g)) {
            let message = format!(
                "`guidance` must be from {} (none) to {}",
                GUIDANCE.start(),
                GUIDANCE.end()
            );
            return Err(ServiceError::parameter("guidance", message));
        }
        if options.readings.is_some_and(|n| !READINGS.contains(&n)) {
            let message = format!("`readings` must be from {} to {}", READINGS.start(), READINGS.end());
            return Err(ServiceError::parameter("readings", message));
        }
        if options.max_tokens == Some(0) {
            return Err(ServiceError::parameter("max_tokens", "`max_tokens` must be at least 1"));
        }
        if options.seed.is_some_and(|s| s >= SEED_END) {
            let message = format!("`seed` must be from 0 to {}", SEED_END - 1);
            return Err(ServiceError::parameter("seed", message));
        }
        let most = self.stop_bytes;
        if options.stop.len() > self.stops || options.stop.iter().any(|s| s.is_empty() || s.len() > most) {
            let message = format!("`stop` takes at most {} texts of 1 to {most} bytes", self.stops);
            return Err(ServiceError::parameter("stop", message));
        }
        Ok(())
    }

    pub(super) fn check_text(&self, param: &'static str, text: &str) -> Result<(), ServiceError> {
        let limit = self.text_bytes;
        if text.len() > limit {
            Err(ServiceError::TextTooLong {
                param,
                bytes: text.len(),
                limit,
            })
        } else {
            Ok(())
        }
    }

    pub(super) fn check_count(&self, n: usize) -> Result<(), ServiceError> {
        let most = self.images;
        if (1..=most).contains(&n) {
            return Ok(());
        }
        Err(ServiceError::parameter("n", format!("`n` must be from 1 to {most}")))
    }
}
