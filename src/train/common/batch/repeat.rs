//! Images with rare findings, shown more often (repeat-factor sampling: Gupta, Dollár and Girshick, "LVIS", CVPR 2019, without their
//! square root): a network that sees one fracture in fourteen images learns for long that there is none.

use std::collections::HashMap;
use std::sync::Arc;

use super::files::Weighted;
use super::images::{ImageSource, Sample};
use crate::train::common::Skip;

/// No image is shown more often than this in an epoch.
const MOST: f64 = 4.0;

/// A source some of whose images are there several times.
struct Repeated {
    source: Arc<dyn ImageSource>,
    /// Images of `source`, in its order.
    shown: Vec<u64>,
}

/// The same sources, where an image whose rarest finding is present in a share `f` of its source's images stands `share / f` times, at
/// least once and at most four times.
pub fn repeat_rare(sources: Vec<Weighted>, share: f64) -> Vec<Weighted> {
    let repeat = |(source, weight): Weighted| {
        let shown = shown(source.as_ref(), share);
        match shown {
            Some(shown) => (Arc::new(Repeated { source, shown }) as Arc<dyn ImageSource>, weight),
            None => (source, weight),
        }
    };
    sources.into_iter().map(repeat).collect()
}

/// Which images to show; `None` for a source without end.
fn shown(source: &dyn ImageSource, share: f64) -> Option<Vec<u64>> {
    let count = source.count()?;
    let mut present: HashMap<String, u64> = HashMap::new();
    for name in (0..count).flat_map(|index| source.present(index)) {
        *present.entry(name).or_default() += 1;
    }
    let mut shown = Vec::new();
    // What is left of earlier images' parts of a showing.
    let mut part = 0.0;
    for index in 0..count {
        let findings = source.present(index);
        let rarest = findings.iter().filter_map(|name| present.get(name)).min();
        let times = rarest.map_or(1.0, |&rare| (share * count as f64 / rare as f64).clamp(1.0, MOST));
        part += times.fract();
        let more = part >= 1.0;
        part -= f64::from(u8::from(more));
        let times = times as usize + usize::from(more);
        shown.extend(std::iter::repeat_n(index, times));
    }
    Some(shown)
}

impl ImageSource for Repeated {
    fn count(&self) -> Option<u64> {
        Some(self.shown.len() as u64)
    }

    fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
        let index = self.shown.get(index as usize).ok_or("there is no such image")?;
        self.source.load(*index, side)
    }

    fn name(&self, index: u64) -> Option<String> {
        self.source.name(*self.shown.get(index as usize)?)
    }

    fn known(&self, index: u64) -> Vec<(String, f32)> {
        let index = self.shown.get(index as usize);
        index.map(|&index| self.source.known(index)).unwrap_or_default()
    }

    fn present(&self, index: u64) -> Vec<String> {
        let index = self.shown.get(index as usize);
        index.map(|&index| self.source.present(index)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 100 images one in ten has a fracture, one in a hundred a nodule as well, and every other one is normal.
    struct Ward;

    impl ImageSource for Ward {
        fn count(&self) -> Option<u64> {
            Some(100)
        }

        fn load(&self, index: u64, _: usize) -> Result<Sample, Skip> {
            Err(Skip {
                id: index.to_string(),
                ..Skip::from("nothing to see")
            })
        }

        fn present(&self, index: u64) -> Vec<String> {
            let named = [
                ("fracture", index.is_multiple_of(10)),
                ("nodule", index == 40),
                ("no finding", index % 2 == 1),
            ];
            let present = named.into_iter().filter(|(_, there)| *there);
            present.map(|(name, _)| name.to_owned()).collect()
        }
    }

    #[test]
    fn images_with_rare_findings_are_shown_more_often_and_every_image_is_shown() {
        let sources = repeat_rare(vec![(Arc::new(Ward) as Arc<dyn ImageSource>, 0.5)], 0.25);
        let (source, weight) = &sources[0];
        let count = source.count().unwrap();
        let shown: Vec<u64> = (0..count)
            .map(|n| source.load(n, 8).err().unwrap().id.parse().unwrap())
            .collect();
        let times = |index: u64| shown.iter().filter(|&&s| s == index).count();
        assert_eq!(*weight, 0.5);
        assert!((0..100).all(|index| times(index) >= 1));
        assert_eq!((times(40), times(1), times(2)), (4, 1, 1));
        // 2.5 times each, in the mean.
        let fractures: usize = (0..10).map(|n| times(10 * n)).sum();
        assert_eq!(fractures, 9 * 5 / 2 + 4);
        assert_eq!(source.present(0), ["fracture"]);
    }

    #[test]
    fn without_rare_findings_nothing_is_repeated() {
        let sources = repeat_rare(vec![(Arc::new(Ward) as Arc<dyn ImageSource>, 1.0)], 0.001);
        assert_eq!(sources[0].0.count(), Some(100));
    }
}
