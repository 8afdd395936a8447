//! Images in an order that depends on the seed alone, from one source or a mixture, as batches of bytes.

use std::sync::Arc;

use rand::Rng;
use tch::{Device, Tensor};

use super::mixture::{Draw, Mixture};
use crate::radiograph::Pixels;
use crate::train::common::random::{Purpose, generator};
use crate::train::common::{DataSum, Skip};

/// One image with what is known of it.
#[derive(Clone)]
pub struct Sample {
    /// Names it in messages.
    pub id: String,
    /// Square, of the side that was asked for.
    pub pixels: Pixels,
    /// Findings known to be present (1) or absent (0); those not named are unknown.
    pub labels: Vec<(String, f32)>,
}

/// A set of images.
pub trait ImageSource: Send + Sync {
    /// How many there are; `None` for a generator without end.
    fn count(&self) -> Option<u64>;

    /// Image `index`, `side × side`; the error says why it has to be skipped.
    fn load(&self, index: u64, side: usize) -> Result<Sample, Skip>;

    /// What image `index` is called, without loading it; `None` where that is not known beforehand.
    fn name(&self, _index: u64) -> Option<String> {
        None
    }

    /// The labels of image `index`, as a [`Sample`] has them, without loading it; none where they are not known beforehand.
    fn known(&self, _index: u64) -> Vec<(String, f32)> {
        Vec::new()
    }

    /// Findings known to be present in image `index`, without loading it; none where that is not known beforehand.
    fn present(&self, _index: u64) -> Vec<String> {
        Vec::new()
    }
}

/// Images of one training step.
#[derive(Default)]
pub struct ImageBatch {
    /// The images' names.
    pub ids: Vec<String>,
    /// `[n, side, side, channels]`, 8 bit.
    pub levels: Vec<u8>,
    /// Labels of each image.
    pub labels: Vec<Vec<(String, f32)>>,
    /// Images that could not be read.
    pub skipped: Vec<Skip>,
}

impl ImageBatch {
    /// The images as `[n, channels, side, side]`, channels-last, f32 in [−1, 1].
    pub fn tensor(&self, side: usize, channels: usize, device: Device) -> Tensor {
        let shape = [self.ids.len() as i64, side as i64, side as i64, channels as i64];
        let levels = Tensor::from_slice(&self.levels).to_device(device).view(shape);
        crate::model::vqgan::normalised(&levels).permute([0, 3, 1, 2])
    }
}

impl ImageBatch {
    /// The same images, at most `size` in each part. Those that could not be read are not taken along.
    pub fn parts(&self, size: usize) -> Vec<ImageBatch> {
        let size = size.max(1);
        let bytes = self.levels.len() / self.ids.len().max(1);
        let levels = self.levels.chunks((size * bytes).max(1));
        let parts = self.ids.chunks(size).zip(self.labels.chunks(size)).zip(levels);
        parts
            .map(|((ids, labels), levels)| ImageBatch {
                ids: ids.to_vec(),
                levels: levels.to_vec(),
                labels: labels.to_vec(),
                skipped: Vec::new(),
            })
            .collect()
    }
}

/// An endless stream of images: each source is gone through in a new order every epoch, sources mixed by their shares.
pub struct ImageStream {
    sources: Vec<(Arc<dyn ImageSource>, f64)>,
    seed: u64,
    side: usize,
    channels: usize,
    shift: i32,
    mixture: Mixture,
}

impl ImageStream {
    /// `sources` with their shares (any positive numbers); sources without images are left out.
    pub fn new(sources: Vec<(Arc<dyn ImageSource>, f64)>, seed: u64, side: usize, channels: usize) -> Self {
        let sources: Vec<(Arc<dyn ImageSource>, f64)> = sources
            .into_iter()
            .filter(|(s, share)| s.count() != Some(0) && *share > 0.0)
            .collect();
        let pools = sources.iter().map(|(source, share)| (source.count(), *share));
        Self {
            mixture: Mixture::new(pools.collect(), seed),
            sources,
            seed,
            side,
            channels,
            shift: 0,
        }
    }

    /// The same, each image moved by up to `most` pixels to a side and up or down, anew every time it is shown.
    pub fn moved(self, most: u8) -> Self {
        Self {
            shift: i32::from(most),
            ..self
        }
    }

    /// Whether there is nothing to give.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Checksum of what is drawn from: each source's share and images.
    pub fn checksum(&self) -> String {
        let mut sum = DataSum::default();
        for (source, share) in &self.sources {
            let count = source.count();
            sum.pool(&format!("{count:?} images"), *share);
            let names = (0..count.unwrap_or(0)).filter_map(|index| source.name(index));
            names.for_each(|name| sum.item(&name));
        }
        sum.finish()
    }

    /// Checksum of what is known of the images that are drawn from: their labels.
    pub fn contents(&self) -> String {
        let mut sum = DataSum::default();
        for (source, _) in &self.sources {
            for index in 0..source.count().unwrap_or(0) {
                let known = source.known(index);
                sum.count(known.len());
                for (name, value) in known {
                    sum.item(&name);
                    sum.value(f64::from(value));
                }
            }
        }
        sum.finish()
    }

    /// Batch `number` of `size` images. Images that cannot be read are left out and accounted for.
    pub fn batch(&self, number: u64, size: usize) -> ImageBatch {
        let mut batch = ImageBatch::default();
        for position in number * size as u64..(number + 1) * size as u64 {
            if let Some(drawn) = self.mixture.draw(position) {
                self.take(drawn, position, &mut batch);
            }
        }
        batch
    }

    /// The first `most` images of the stream, none of them twice: a source whose first epoch is through is left out from there on. They
    /// are fewer where all sources together hold fewer. Images that cannot be read count, are left out and accounted for.
    pub fn once(&self, most: usize) -> ImageBatch {
        let mut batch = ImageBatch::default();
        let mut active: Vec<usize> = (0..self.sources.len()).collect();
        let mut taken = vec![0u64; self.sources.len()];
        // Where the walk is in the stream of the sources that are left: one stream until the first of them is through.
        let mut at = 0;
        for position in 0..most as u64 {
            if active.is_empty() {
                break;
            }
            let (place, _) = self.mixture.among(&active, at);
            let source = active[place];
            if let Some(drawn) = self.mixture.at(source, taken[source]) {
                self.take(drawn, position, &mut batch);
            }
            (taken[source], at) = (taken[source] + 1, at + 1);
            if self.sources[source].0.count() == Some(taken[source]) {
                active.remove(place);
                at = 0;
            }
        }
        batch
    }

    /// Loads the image that was drawn, which is shown at `position` of the stream, into `batch`.
    fn take(&self, drawn: Draw, position: u64, batch: &mut ImageBatch) {
        match self.sources[drawn.pool].0.load(drawn.item, self.side) {
            Ok(sample) => {
                let pixels = match self.shift {
                    0 => sample.pixels,
                    most => {
                        let mut rng = generator(self.seed, Purpose::Shift, position);
                        let mut by = || rng.random_range(-most..=most);
                        sample.pixels.moved(by(), by())
                    }
                };
                push_levels(&pixels, self.channels, &mut batch.levels);
                batch.ids.push(sample.id);
                batch.labels.push(sample.labels);
            }
            Err(skip) => batch.skipped.push(skip),
        }
    }
}

/// Appends the pixels as `channels` bytes each: RGB, or Pillow's `L` (ITU-R 601-2 luma in 16-bit fixed point).
fn push_levels(pixels: &Pixels, channels: usize, out: &mut Vec<u8>) {
    if channels == 3 {
        out.extend_from_slice(pixels.rgb());
    } else {
        let (triples, _) = pixels.rgb().as_chunks::<3>();
        out.extend(triples.iter().map(|&[r, g, b]| {
            let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000;
            (sum >> 16) as u8
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(Option<u64>);

    impl ImageSource for Numbered {
        fn count(&self) -> Option<u64> {
            self.0
        }

        fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
            let pixels = Pixels::new(side, side, vec![index as u8; side * side * 3]).ok_or("no pixels")?;
            let sample = Sample {
                id: index.to_string(),
                pixels,
                labels: Vec::new(),
            };
            if index == 5 {
                Err(Skip::from("5 is broken"))
            } else {
                Ok(sample)
            }
        }
    }

    fn stream(sources: &[(Option<u64>, f64)], seed: u64) -> ImageStream {
        let sources = sources
            .iter()
            .map(|&(count, share)| (Arc::new(Numbered(count)) as Arc<dyn ImageSource>, share))
            .collect();
        ImageStream::new(sources, seed, 2, 1)
    }

    #[test]
    fn an_epoch_holds_every_image_once_and_the_next_has_another_order() {
        let s = stream(&[(Some(50), 1.0)], 3);
        let epoch = |e: u64| {
            (e * 50..(e + 1) * 50)
                .filter_map(|p| s.mixture.draw(p))
                .map(|d| d.item)
                .collect::<Vec<_>>()
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        let other = stream(&[(Some(50), 1.0)], 4);
        let of_another_seed: Vec<u64> = (0..50).filter_map(|p| other.mixture.draw(p)).map(|d| d.item).collect();
        assert_ne!(first, of_another_seed);
        for mut order in [first.clone(), second] {
            order.sort_unstable();
            assert_eq!(order, (0..50).collect::<Vec<u64>>());
        }
        assert_eq!(first, epoch(0));
    }

    #[test]
    fn sources_are_mixed_by_their_shares_and_none_skips_an_image() {
        let s = stream(&[(None, 5.0), (Some(7), 3.0), (Some(0), 9.0), (None, 2.0)], 1);
        let drawn: Vec<_> = (0..1000).filter_map(|p| s.mixture.draw(p)).collect();
        let of = |n: usize| drawn.iter().filter(|d| d.pool == n).map(|d| d.item).collect::<Vec<_>>();
        assert!(of(0).len().abs_diff(500) <= 1 && of(1).len().abs_diff(300) <= 1 && of(2).len().abs_diff(200) <= 1);
        assert_eq!(of(0), (0..of(0).len() as u64).collect::<Vec<_>>());
    }

    struct Ramp;

    impl ImageSource for Ramp {
        fn count(&self) -> Option<u64> {
            None
        }

        fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
            let rgb = (0..side * side).flat_map(|i| [i as u8; 3]).collect();
            Ok(Sample {
                id: index.to_string(),
                pixels: Pixels::new(side, side, rgb).ok_or("no pixels")?,
                labels: Vec::new(),
            })
        }
    }

    #[test]
    fn moved_images_are_moved_within_bounds_anew_each_time_and_alike_on_each_run() {
        let still = ImageStream::new(vec![(Arc::new(Ramp), 1.0)], 1, 8, 1)
            .batch(0, 1)
            .levels;
        let moved = || {
            ImageStream::new(vec![(Arc::new(Ramp), 1.0)], 1, 8, 1)
                .moved(2)
                .batch(0, 60)
                .levels
        };
        let images = moved();
        assert_eq!(images, moved());
        let (mut seen, at) = (std::collections::BTreeSet::new(), |row: i32, column: i32| {
            still[(row.clamp(0, 7) * 8 + column.clamp(0, 7)) as usize]
        });
        for image in images.chunks(64) {
            let by = (-2..=2)
                .flat_map(|down| (-2..=2).map(move |right| (down, right)))
                .find(|(down, right)| (0..64).all(|i| image[i as usize] == at(i / 8 - down, i % 8 - right)));
            seen.insert(by.expect("an image is not the ramp moved by at most two"));
        }
        assert!(seen.len() > 10, "only {seen:?}");
    }

    #[test]
    fn an_image_that_cannot_be_read_is_left_out_and_accounted_for() {
        let s = stream(&[(Some(8), 1.0)], 1);
        let batch = s.batch(0, 8);
        assert_eq!((batch.ids.len(), batch.skipped), (7, vec![Skip::from("5 is broken")]));
        assert_eq!(batch.levels.len(), 7 * 4);
        assert_eq!(s.batch(3, 4).ids, s.batch(3, 4).ids);
    }

    /// So many images, whose names begin with a word.
    struct Named(&'static str, u64);

    impl ImageSource for Named {
        fn count(&self) -> Option<u64> {
            Some(self.1)
        }

        fn name(&self, index: u64) -> Option<String> {
            Some(format!("{} {index}", self.0))
        }

        fn known(&self, index: u64) -> Vec<(String, f32)> {
            vec![(self.0.to_owned(), index as f32)]
        }

        fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
            Ok(Sample {
                id: format!("{} {index}", self.0),
                pixels: Pixels::new(side, side, vec![index as u8; side * side * 3]).ok_or("no pixels")?,
                labels: Vec::new(),
            })
        }
    }

    #[test]
    fn a_checksum_tells_whether_the_images_are_those_of_before() {
        let sum = |sources: Vec<(Arc<dyn ImageSource>, f64)>| ImageStream::new(sources, 1, 2, 1).checksum();
        let named = |name, count, share| (Arc::new(Named(name, count)) as Arc<dyn ImageSource>, share);
        let one = sum(vec![named("a", 7, 1.0)]);
        assert_eq!(one, sum(vec![named("a", 7, 1.0)]));
        for other in [named("a", 6, 1.0), named("b", 7, 1.0), named("a", 7, 2.0)] {
            assert_ne!(one, sum(vec![other]));
        }
        // Kept in memory or shown more often than once they are called the same, and the same is known of them.
        let kept = || crate::train::common::repeat_rare(crate::train::common::keep(vec![named("a", 7, 1.0)], 1), 0.1);
        assert_eq!(one, sum(kept()));
        let known = |sources: Vec<(Arc<dyn ImageSource>, f64)>| ImageStream::new(sources, 1, 2, 1).contents();
        assert_eq!(known(kept()), known(vec![named("a", 7, 1.0)]));
        assert_ne!(known(kept()), known(vec![named("b", 7, 1.0)]));
    }

    #[test]
    fn once_gives_every_image_one_time_however_many_are_asked_for() {
        let stream = |sources: &[(&'static str, u64, f64)]| {
            let sources = sources
                .iter()
                .map(|&(name, count, share)| (Arc::new(Named(name, count)) as Arc<dyn ImageSource>, share))
                .collect();
            ImageStream::new(sources, 3, 2, 1)
        };
        let distinct = |batch: &ImageBatch| batch.ids.iter().collect::<std::collections::BTreeSet<_>>().len();
        let seven = stream(&[("a", 7, 1.0)]);
        let batch = seven.once(20);
        assert_eq!((batch.ids.len(), distinct(&batch), batch.levels.len()), (7, 7, 7 * 4));
        let mixed = stream(&[("a", 7, 5.0), ("b", 40, 1.0), ("c", 12, 0.5)]);
        for most in [1, 6, 30, 59, 500] {
            let batch = mixed.once(most);
            assert_eq!((batch.ids.len(), distinct(&batch)), (most.min(59), most.min(59)));
        }
        // As long as no image repeats, they are those of the stream.
        assert_eq!(mixed.once(8).ids, mixed.batch(0, 8).ids);
        assert_eq!(seven.once(7).ids, seven.batch(0, 7).ids);
        assert_eq!(stream(&[]).once(5).ids.len(), 0);
    }

    #[test]
    fn once_goes_on_with_a_source_without_end_until_enough_are_tried() {
        let batch = stream(&[(Some(3), 1.0), (None, 1.0)], 1).once(20);
        // Image 5 of the other is broken.
        assert_eq!((batch.ids.len(), batch.skipped.len()), (19, 1));
    }
}
