//! Images kept in memory once they are decoded: small models see an image many times, and decoding it takes as long as learning from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::files::Weighted;
use super::images::{ImageSource, Sample};
use crate::train::common::Skip;

/// A source whose images are kept until `budget` bytes are full; what comes later is loaded each time.
pub struct Cached {
    source: Arc<dyn ImageSource>,
    kept: Mutex<Kept>,
}

struct Kept {
    samples: HashMap<(u64, usize), Sample>,
    left: usize,
}

impl Cached {
    /// Keeps up to `budget` bytes of pixels and labels of `source`.
    pub fn new(source: Arc<dyn ImageSource>, budget: usize) -> Self {
        let kept = Kept {
            samples: HashMap::new(),
            left: budget,
        };
        Self {
            source,
            kept: Mutex::new(kept),
        }
    }
}

/// The same sources, of whose images up to `mebibytes` in all are kept.
pub fn keep(sources: Vec<Weighted>, mebibytes: usize) -> Vec<Weighted> {
    let budget = mebibytes.saturating_mul(1 << 20) / sources.len().max(1);
    let cached = |(source, share)| (Arc::new(Cached::new(source, budget)) as Arc<dyn ImageSource>, share);
    sources.into_iter().map(cached).collect()
}

/// About what a sample takes in memory.
fn bytes(sample: &Sample) -> usize {
    let labels = sample
        .labels
        .iter()
        .map(|(name, _)| name.len() + size_of::<(String, f32)>());
    sample.pixels.rgb().len() + sample.id.len() + labels.sum::<usize>()
}

impl ImageSource for Cached {
    fn count(&self) -> Option<u64> {
        self.source.count()
    }

    fn name(&self, index: u64) -> Option<String> {
        self.source.name(index)
    }

    fn known(&self, index: u64) -> Vec<(String, f32)> {
        self.source.known(index)
    }

    fn present(&self, index: u64) -> Vec<String> {
        self.source.present(index)
    }

    fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = lock().samples.get(&(index, side)) {
            return Ok(sample.clone());
        }
        // Loaded without the lock, so that others can load meanwhile.
        let sample = self.source.load(index, side)?;
        let mut kept = lock();
        let size = bytes(&sample);
        if size <= kept.left && kept.samples.insert((index, side), sample.clone()).is_none() {
            kept.left -= size;
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::radiograph::Pixels;

    struct Counting(AtomicUsize);

    impl ImageSource for Counting {
        fn count(&self) -> Option<u64> {
            Some(9)
        }

        fn load(&self, index: u64, side: usize) -> Result<Sample, Skip> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let levels = vec![index as u8; side * side * 3];
            let pixels = Pixels::new(side, side, levels).ok_or("no pixels")?;
            Ok(Sample {
                id: String::new(),
                pixels,
                labels: Vec::new(),
            })
        }
    }

    #[test]
    fn images_are_loaded_once_until_the_budget_is_full() {
        let source = Arc::new(Counting(AtomicUsize::new(0)));
        // Room for two images of 4 × 4.
        let cached = Cached::new(source.clone(), 100);
        for _ in 0..3 {
            for index in 0..3 {
                assert_eq!(cached.load(index, 4).unwrap().pixels.rgb()[0], index as u8);
            }
        }
        assert_eq!(source.0.load(Ordering::Relaxed), 2 + 3);
    }
}
