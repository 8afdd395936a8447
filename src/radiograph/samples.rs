//! Samples of a PNG → 8-bit grey or RGB: depth, transparency and palettes.
//!
//! Here the two kinds of preprocessing differ in what a sample means. Pillow's ways: grey of 16 bits is clipped at 255,
//! other 16-bit samples lose their low byte, transparency is ignored.

use super::ends::ends;
use super::{Channels, Preprocess};

/// What the samples of a PNG without palette are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Grey or RGB.
    pub(super) channels: Channels,
    /// Whether one more sample per pixel tells its opacity.
    pub(super) alpha: bool,
    /// Bits of a stored sample: 1, 2, 4 or 8.
    pub(super) bits: u8,
    /// The one colour that is transparent (PNG tRNS of images without alpha), in stored values; grey uses the first.
    pub(super) key: Option<[u16; 3]>,
}

impl Layout {
    /// Samples per pixel as stored.
    pub(super) fn stored(&self) -> usize {
        self.channels.count() + usize::from(self.alpha)
    }
}

/// `value · share / whole`, rounded to nearest: what composition on black leaves of a sample.
fn scaled(value: u64, share: u64, whole: u64) -> u8 {
    // At most 255 by the callers' choice of value and share.
    ((value * share + whole / 2) / whole).min(255) as u8
}

/// Samples of at most 8 bits, one a byte, each from 0 to `2^bits − 1`.
pub(super) fn from_bytes(stored: &[u8], layout: Layout, preprocess: Preprocess) -> Vec<u8> {
    let colours = layout.channels.count();
    // 1, 2, 4 and 8 bits: 255, 85, 17 and 1. Each divides 255.
    let step = 255 / ((1u16 << layout.bits.clamp(1, 8)) - 1);
    let expand = |sample: u8| (u16::from(sample) * step).min(255) as u8;
    let transparent = preprocess == Preprocess::Default;
    let mut out = Vec::with_capacity(stored.len() / layout.stored() * colours);
    for pixel in stored.chunks_exact(layout.stored()) {
        let (colour, alpha) = pixel.split_at(colours);
        match (alpha.first(), layout.key) {
            (Some(&alpha), _) if transparent && alpha < 255 => {
                out.extend(colour.iter().map(|&c| scaled(expand(c).into(), alpha.into(), 255)));
            }
            (None, Some(key)) if transparent && colour.iter().zip(key).all(|(&c, k)| u16::from(c) == k) => {
                out.extend(colour.iter().map(|_| 0));
            }
            _ => out.extend(colour.iter().map(|&c| expand(c))),
        }
    }
    out
}

/// Samples of 16 bits, high byte first.
///
/// By default they are mapped by the window they use: the least and the greatest sample of all pixels that are not wholly
/// transparent, outliers aside (see [`ends`]), become 0 and 255, all colours alike. Detectors give 10 to 14 bits, and
/// writers store them at either end of the 16, mostly without saying so in sBIT; the window is right for all of them. An
/// image of one value keeps its share of 65,535.
pub(super) fn from_words(stored: &[u8], layout: Layout, preprocess: Preprocess) -> Vec<u8> {
    let colours = layout.channels.count();
    let words = || stored.as_chunks::<2>().0.iter().map(|&bytes| u16::from_be_bytes(bytes));
    let pixels = stored.chunks_exact(2 * layout.stored());
    if preprocess == Preprocess::Compat {
        return match (layout.channels, layout.alpha) {
            (Channels::Grey, false) => words().map(|word| word.min(255) as u8).collect(),
            _ => pixels
                .flat_map(|pixel| pixel.iter().step_by(2).take(colours).copied())
                .collect(),
        };
    }
    // Each pixel as its colours and its opacity out of 65,535.
    let pixels = pixels.map(|pixel| {
        let mut sample = pixel.as_chunks::<2>().0.iter().map(|&bytes| u16::from_be_bytes(bytes));
        let colour: [u16; 3] = std::array::from_fn(|i| if i < colours { sample.next().unwrap_or(0) } else { 0 });
        let opacity = match layout.key {
            Some(key) if !layout.alpha => u16::MAX * u16::from(colour[..colours] != key[..colours]),
            _ => sample.next().unwrap_or(u16::MAX),
        };
        (colour, u64::from(opacity))
    });
    let visible = pixels.clone().filter(|&(_, opacity)| opacity > 0);
    let visible = visible.flat_map(|(colour, _)| colour.into_iter().take(colours));
    let (least, greatest) = ends(visible, |sample| Some(f64::from(sample)))
        .filter(|(least, greatest)| least < greatest)
        .map_or((0, u16::MAX), |(least, greatest)| (least as u16, greatest as u16));
    let range = u64::from(greatest - least);
    let mut out = Vec::with_capacity(stored.len() / (2 * layout.stored()) * colours);
    for (colour, opacity) in pixels {
        let above = |sample: u16| u64::from(sample.clamp(least, greatest) - least);
        let share = |sample: u16| scaled(above(sample) * 255, opacity, range * 0xffff);
        out.extend(colour[..colours].iter().map(|&sample| share(sample)));
    }
    out
}

/// Palette indices, one a byte. `palette` holds RGB triples, `opacity` one byte per entry (PNG tRNS).
///
/// An index beyond the palette is, as in Pillow, that grey level.
pub(super) fn from_indices(
    stored: Vec<u8>,
    palette: &[u8],
    opacity: &[u8],
    preprocess: Preprocess,
) -> (Channels, Vec<u8>) {
    let mut colours: [[u8; 3]; 256] = std::array::from_fn(|i| [i as u8; 3]);
    for (colour, entry) in colours.iter_mut().zip(palette.as_chunks::<3>().0) {
        *colour = *entry;
    }
    if preprocess == Preprocess::Default {
        for (colour, &opacity) in colours.iter_mut().zip(opacity) {
            *colour = colour.map(|c| scaled(c.into(), opacity.into(), 255));
        }
    }
    if colours.iter().all(|[r, g, b]| r == g && g == b) {
        return (
            Channels::Grey,
            stored.into_iter().map(|index| colours[usize::from(index)][0]).collect(),
        );
    }
    (
        Channels::Rgb,
        stored
            .into_iter()
            .flat_map(|index| colours[usize::from(index)])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: Layout = Layout {
        channels: Channels::Grey,
        alpha: false,
        bits: 16,
        key: None,
    };

    fn words(values: &[u16]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_be_bytes()).collect()
    }

    #[test]
    fn twelve_bits_stored_in_sixteen_use_the_whole_range() {
        let stored = words(&[0, 1024, 2048, 4095]);
        assert_eq!(from_words(&stored, GREY, Preprocess::Default), [0, 64, 128, 255]);
        assert_eq!(from_words(&stored, GREY, Preprocess::Compat), [0, 255, 255, 255]);
    }

    #[test]
    fn an_image_of_one_value_keeps_its_brightness() {
        assert_eq!(from_words(&words(&[32768; 3]), GREY, Preprocess::Default), [128; 3]);
        assert_eq!(from_words(&words(&[0; 3]), GREY, Preprocess::Default), [0; 3]);
    }

    #[test]
    fn a_hot_pixel_and_a_dead_one_leave_all_other_grey_levels_as_they_were() {
        // 12 bits in 16.
        let mut samples: Vec<u16> = (0..4096).map(|i| 300 + i * 7 % 3500).collect();
        let before = from_words(&words(&samples), GREY, Preprocess::Default);
        let (hot, dead) = (1000, 2000);
        (samples[hot], samples[dead]) = (65_535, 0);
        let after = from_words(&words(&samples), GREY, Preprocess::Default);
        assert_eq!((after[hot], after[dead]), (255, 0));
        for (at, (before, after)) in before.into_iter().zip(after).enumerate() {
            let same = [hot, dead].contains(&at) || before.abs_diff(after) <= 1;
            assert!(same, "pixel {at}: {after}, not {before}");
        }
        // The published way clips, and knows no window.
        let compat = from_words(&words(&samples), GREY, Preprocess::Compat);
        let clipped: Vec<u8> = samples.iter().map(|&sample| sample.min(255) as u8).collect();
        assert_eq!(compat, clipped);
    }

    #[test]
    fn a_marker_of_a_hundredth_of_the_area_does_not_dim_the_rest() {
        let marked: Vec<u16> = (0..10_000).map(|i| if i < 100 { 65_535 } else { i % 4096 }).collect();
        let seen = from_words(&words(&marked), GREY, Preprocess::Default);
        assert_eq!((seen[0], seen[4096], seen[4096 + 4095]), (255, 0, 255));
        assert!(seen[4096 + 2048].abs_diff(128) <= 1);
    }

    #[test]
    fn transparent_pixels_do_not_widen_the_window() {
        let layout = Layout { alpha: true, ..GREY };
        let stored = words(&[100, 0xffff, 300, 0xffff, 60000, 0, 300, 0x8000]);
        assert_eq!(from_words(&stored, layout, Preprocess::Default), [0, 255, 0, 128]);
        let keyed = Layout {
            key: Some([60000, 0, 0]),
            ..GREY
        };
        assert_eq!(
            from_words(&words(&[100, 300, 60000]), keyed, Preprocess::Default),
            [0, 255, 0]
        );
    }

    #[test]
    fn alpha_is_composited_on_black_unless_compatible() {
        let layout = Layout {
            channels: Channels::Grey,
            alpha: true,
            bits: 8,
            key: None,
        };
        assert_eq!(
            from_bytes(&[200, 255, 200, 128, 200, 0], layout, Preprocess::Default),
            [200, 100, 0]
        );
        assert_eq!(
            from_bytes(&[200, 255, 200, 128, 200, 0], layout, Preprocess::Compat),
            [200, 200, 200]
        );
    }

    #[test]
    fn few_bits_spread_over_the_whole_range() {
        let layout = |bits| Layout {
            channels: Channels::Grey,
            alpha: false,
            bits,
            key: Some([1, 0, 0]),
        };
        assert_eq!(from_bytes(&[0, 1], layout(1), Preprocess::Compat), [0, 255]);
        assert_eq!(
            from_bytes(&[0, 1, 2, 3], layout(2), Preprocess::Compat),
            [0, 85, 170, 255]
        );
        assert_eq!(
            from_bytes(&[0, 1, 2, 15], layout(4), Preprocess::Default),
            [0, 0, 34, 255]
        );
    }

    #[test]
    fn an_index_beyond_the_palette_is_a_grey_level() {
        let (channels, samples) = from_indices(vec![0, 1, 7], &[9, 8, 7, 6, 5, 4], &[255, 0], Preprocess::Default);
        assert_eq!((channels, samples), (Channels::Rgb, vec![9, 8, 7, 0, 0, 0, 7, 7, 7]));
        let (channels, samples) = from_indices(vec![0, 7], &[9, 9, 9], &[0], Preprocess::Compat);
        assert_eq!((channels, samples), (Channels::Grey, vec![9, 7]));
    }
}
