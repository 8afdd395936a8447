//! Stored values of a monochrome DICOM picture → 8-bit grey, as a viewer first shows it (DICOM PS3.3 C.7.6.3, C.7.5.1.1.2, C.11.1, C.11.2).
//!
//! ```text
//! sample ─ its stored bits ─ modality (rescale or table) ─ values of interest (window, table, or a range) ─ grey
//! ```

use std::ops::RangeInclusive;

use crate::radiograph::ends::ends;

/// Where a value lies in a sample of up to 16 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// Bits of a value, 1 to 16.
    pub(super) bits: u32,
    /// Bits below it.
    pub(super) below: u32,
    /// Whether values are in two's complement.
    pub(super) signed: bool,
}

impl Stored {
    /// The value of a sample; bits around it (overlays of old) do not count.
    fn value(self, sample: u16) -> i32 {
        let value = i32::from(sample >> self.below) & ((1 << self.bits) - 1);
        match self.signed && value >> (self.bits - 1) == 1 {
            true => value - (1 << self.bits),
            false => value,
        }
    }

    /// The least value and the greatest.
    fn range(self) -> [i32; 2] {
        match self.signed {
            true => [-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1],
            false => [0, (1 << self.bits) - 1],
        }
    }
}

/// A look-up table (C.11.1.1.1): entry 0 belongs to `first` and all below it, the last one to all above.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) first: i32,
    /// At least one.
    pub(super) entries: Vec<u16>,
    /// Bits of an entry, 1 to 16.
    pub(super) bits: u32,
}

impl Table {
    fn entry(&self, value: f64) -> f64 {
        let place = (value - f64::from(self.first)).clamp(0.0, (self.entries.len() - 1) as f64);
        f64::from(self.entries[place as usize])
    }
}

/// From stored values to the modality's own.
#[derive(Clone, Debug)]
pub(super) enum Modality {
    Rescale { slope: f64, intercept: f64 },
    Table(Table),
}

impl Modality {
    fn apply(&self, value: i32) -> f64 {
        match self {
            Self::Rescale { slope, intercept } => f64::from(value) * slope + intercept,
            Self::Table(table) => table.entry(f64::from(value)),
        }
    }

    /// Whether it leaves values as they are.
    pub(super) fn is_identity(&self) -> bool {
        matches!(
            self,
            Self::Rescale {
                slope: 1.0,
                intercept: 0.0
            }
        )
    }

    /// Whether it can give values below nought. What follows it takes numbers of that type (C.11.2.1.1), whatever the stored ones are.
    pub(super) fn is_signed(&self, stored: Stored) -> bool {
        match self {
            Self::Rescale { .. } => stored.range().into_iter().any(|value| self.apply(value) < 0.0),
            Self::Table(_) => false,
        }
    }
}

/// How a window runs from black to white.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ramp {
    Linear,
    LinearExact,
    Sigmoid,
}

/// Which values are of interest.
#[derive(Clone, Debug)]
pub(super) enum Interest {
    Window {
        centre: f64,
        width: f64,
        ramp: Ramp,
    },
    Table(Table),
    /// From the least to the greatest that occurs, outliers aside, where the file does not say.
    Used,
    /// From the least to the greatest that could be stored, where the modality leaves values as they are.
    Stored,
}

/// Everything that a file says of how it is shown.
#[derive(Clone, Debug)]
pub(super) struct Display {
    pub(super) stored: Stored,
    pub(super) modality: Modality,
    pub(super) interest: Interest,
    /// Stored values that are no part of the picture; they are shown black.
    pub(super) padding: Option<RangeInclusive<i32>>,
    /// The least value is white.
    pub(super) inverted: bool,
}

impl Display {
    fn is_padding(&self, value: i32) -> bool {
        self.padding.as_ref().is_some_and(|range| range.contains(&value))
    }

    /// The least value that occurs and the greatest, padding and outliers aside.
    fn used(&self, samples: &[u16]) -> Option<(f64, f64)> {
        ends(samples.iter().copied(), |sample| {
            let value = self.stored.value(sample);
            (!self.is_padding(value)).then(|| self.modality.apply(value))
        })
    }

    /// 8-bit grey of the samples, 0 black.
    pub(super) fn grey(&self, samples: &[u16]) -> Vec<u8> {
        let (least, greatest) = match self.interest {
            Interest::Used => match self.used(samples).filter(|(least, greatest)| least < greatest) {
                Some(used) => used,
                // Of a picture of one value, or of nothing but padding, nothing can be told.
                None => return vec![0; samples.len()],
            },
            Interest::Stored => {
                let [least, greatest] = self.stored.range().map(f64::from);
                (least, greatest)
            }
            _ => (0.0, 1.0),
        };
        let share = |value: f64| match &self.interest {
            Interest::Used | Interest::Stored => (value - least) / (greatest - least),
            Interest::Table(table) => table.entry(value) / f64::from((1u32 << table.bits) - 1),
            Interest::Window { centre, width, ramp } => match ramp {
                // C.11.2.1.2.1: the centre is between two values.
                Ramp::Linear if *width > 1.0 => (value - (centre - 0.5)) / (width - 1.0) + 0.5,
                Ramp::Linear => f64::from(u8::from(value > centre - 0.5)),
                Ramp::LinearExact => (value - centre) / width + 0.5,
                Ramp::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - centre) / width).exp()),
            },
        };
        let grey = |sample: u16| {
            let value = self.stored.value(sample);
            if self.is_padding(value) {
                return 0;
            }
            let level = (share(self.modality.apply(value)).clamp(0.0, 1.0) * 255.0).round() as u8;
            if self.inverted { 255 - level } else { level }
        };
        // Most pictures have more pixels than there are samples.
        if samples.len() > 1 << 16 {
            let known: Vec<u8> = (0..=u16::MAX).map(grey).collect();
            samples.iter().map(|&sample| known[usize::from(sample)]).collect()
        } else {
            samples.iter().map(|&sample| grey(sample)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(bits: u32, signed: bool) -> Display {
        Display {
            stored: Stored { bits, below: 0, signed },
            modality: Modality::Rescale {
                slope: 1.0,
                intercept: 0.0,
            },
            interest: Interest::Used,
            padding: None,
            inverted: false,
        }
    }

    #[test]
    fn values_are_told_from_the_bits_around_them() {
        let shifted = Stored {
            bits: 12,
            below: 4,
            signed: false,
        };
        assert_eq!(shifted.value(0x123f), 0x123);
        let signed = Stored {
            bits: 12,
            below: 0,
            signed: true,
        };
        assert_eq!((signed.value(0xf7ff), signed.value(0x0800)), (2047, -2048));
        let whole = Stored {
            bits: 16,
            below: 0,
            signed: true,
        };
        assert_eq!((whole.value(0xffff), whole.value(0x7fff)), (-1, 32767));
    }

    #[test]
    fn without_a_window_the_range_in_use_is_shown_whatever_it_is() {
        assert_eq!(display(8, false).grey(&[10, 20, 30]), [0, 128, 255]);
        assert_eq!(display(16, false).grey(&[1000, 1100, 1200]), [0, 128, 255]);
        // −100, 0, 100.
        assert_eq!(display(16, true).grey(&[0xff9c, 0, 100]), [0, 128, 255]);
        // Overlays above the stored bits do not count.
        assert_eq!(display(12, false).grey(&[0xf00a, 0x000a, 0x001e]), [0, 0, 255]);
        assert_eq!(display(8, false).grey(&[7, 7]), [0, 0]);
        let inverted = Display {
            inverted: true,
            ..display(8, false)
        };
        assert_eq!(inverted.grey(&[7, 7]), [0, 0]);
        let many: Vec<u16> = (0..70_000).map(|i| (i % 3) as u16).collect();
        assert_eq!(display(16, false).grey(&many)[..4], [0, 128, 255, 0]);
    }

    #[test]
    fn the_range_that_can_be_stored_is_shown_as_it_is() {
        let stored = |bits, signed| Display {
            interest: Interest::Stored,
            ..display(bits, signed)
        };
        assert_eq!(stored(8, false).grey(&[0, 7, 90, 255]), [0, 7, 90, 255]);
        // −128, −1, 0, 127.
        assert_eq!(stored(8, true).grey(&[0x80, 0xff, 0, 0x7f]), [0, 127, 128, 255]);
        assert_eq!(stored(4, false).grey(&[0, 5, 15]), [0, 85, 255]);
        assert_eq!(stored(1, true).grey(&[1, 0]), [0, 255]);
    }

    #[test]
    fn one_pixel_does_not_decide_how_bright_all_others_are() {
        let sound: Vec<u16> = (0..4096).map(|i| 300 + i * 7 % 3500).collect();
        let mut struck = sound.clone();
        let (hot, dead) = (1000, 2000);
        (struck[hot], struck[dead]) = (65_535, 0);
        for inverted in [false, true] {
            let display = Display {
                inverted,
                ..display(16, false)
            };
            let (before, after) = (display.grey(&sound), display.grey(&struck));
            let extremes = if inverted { (0, 255) } else { (255, 0) };
            assert_eq!((after[hot], after[dead]), extremes);
            for (at, (before, after)) in before.into_iter().zip(after).enumerate() {
                let same = [hot, dead].contains(&at) || before.abs_diff(after) <= 1;
                assert!(same, "pixel {at}: {after}, not {before}");
            }
        }
    }

    #[test]
    fn padding_is_black_and_no_part_of_the_range() {
        let padded = Display {
            padding: Some(65_535..=65_535),
            ..display(16, false)
        };
        assert_eq!(padded.grey(&[65_535, 100, 200]), [0, 0, 255]);
        let inverted = Display {
            inverted: true,
            ..padded
        };
        assert_eq!(inverted.grey(&[65_535, 100, 200]), [0, 255, 0]);
    }

    #[test]
    fn tables_are_looked_up_and_end_where_they_end() {
        let table = Table {
            first: -1,
            entries: vec![0, 128, 255],
            bits: 8,
        };
        let shown = Display {
            interest: Interest::Table(table.clone()),
            ..display(16, true)
        };
        assert_eq!(shown.grey(&[0xff00, 0xffff, 0, 1, 500]), [0, 0, 128, 255, 255]);
        let modality = Display {
            modality: Modality::Table(table),
            ..display(16, true)
        };
        assert_eq!(modality.grey(&[0xffff, 0, 1]), [0, 128, 255]);
    }

    #[test]
    fn windows_run_as_the_standard_has_them() {
        let window = |width: f64, ramp: Ramp| Display {
            interest: Interest::Window {
                centre: 100.0,
                width,
                ramp,
            },
            ..display(16, false)
        };
        assert_eq!(window(1.0, Ramp::Linear).grey(&[99, 100]), [0, 255]);
        assert_eq!(window(101.0, Ramp::Linear).grey(&[49, 150]), [0, 255]);
        assert_eq!(window(100.0, Ramp::LinearExact).grey(&[50, 100, 150]), [0, 128, 255]);
        let sigmoid = window(100.0, Ramp::Sigmoid).grey(&[0, 100, 200]);
        assert!(sigmoid[0] < 6 && sigmoid[1] == 128 && sigmoid[2] > 249, "{sigmoid:?}");
    }
}
