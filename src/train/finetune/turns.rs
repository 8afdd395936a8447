//! Which way each training image is used, where images alternate between being reported on and being drawn.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

/// Checksum of an image's id.
type Key = [u8; 16];

/// The training images of a data set that have codes, counted before anything else is asked of them: whether a stage uses an image and
/// whether it has a report changes nothing in how the others are used, so that an image is used one way in both stages. So the original
/// counts.
#[derive(Debug, Default)]
pub struct Turns(HashMap<Key, u32>);

/// Those of the images that are drawn; the others are reported on.
#[derive(Debug)]
pub struct Drawn(HashSet<Key>);

impl Turns {
    /// Counts an image; one that is named again keeps its turn.
    pub fn add(&mut self, id: &str) {
        let next = self.0.len() as u32;
        self.0.entry(key(id)).or_insert(next);
    }

    /// Every second image: along the list (`in_order`), as the original does along MIMIC-CXR's, or in the order of checksums of their ids. A
    /// list from elsewhere may alternate by itself, between views or findings, which would teach each of them one thing.
    pub fn drawn(self, in_order: bool) -> Drawn {
        if in_order {
            let second = self.0.into_iter().filter(|(_, turn)| turn % 2 == 1);
            return Drawn(second.map(|(key, _)| key).collect());
        }
        let mut keys: Vec<Key> = self.0.into_keys().collect();
        keys.sort_unstable();
        Drawn(keys.into_iter().skip(1).step_by(2).collect())
    }
}

impl Drawn {
    /// Whether the image of this id is drawn.
    pub fn holds(&self, id: &str) -> bool {
        self.0.contains(&key(id))
    }
}

fn key(id: &str) -> Key {
    let sum: [u8; 32] = Sha256::digest(id).into();
    std::array::from_fn(|at| sum[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_image_is_drawn_along_the_list_or_by_checksums_whatever_its_order() {
        let ids = ["0.png", "1.png", "2.png", "3.png"];
        let drawn = |in_order, list: &[&str]| {
            let mut turns = Turns::default();
            list.iter().for_each(|id| turns.add(id));
            let drawn = turns.drawn(in_order);
            ids.map(|id| drawn.holds(id))
        };
        // An image that several rows name has one turn.
        let rows = ["0.png", "0.png", "1.png", "2.png", "1.png", "3.png"];
        assert_eq!(drawn(true, &rows), [false, true, false, true]);
        // By checksums the order is 0, 2, 1, 3.
        assert_eq!(drawn(false, &ids), [false, false, true, true]);
        let backwards = ["3.png", "2.png", "1.png", "0.png"];
        assert_eq!(drawn(false, &backwards), drawn(false, &ids));
    }
}
