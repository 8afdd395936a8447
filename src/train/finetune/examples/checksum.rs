//! Whether the examples are those of before.

use super::{Examples, Pool};
use crate::train::common::DataSum;

impl Examples {
    /// Checksum of what is drawn from in training: the skill, the share and the names of each pool.
    pub fn checksum(&self) -> String {
        let mut sum = DataSum::default();
        for pool in &self.pools {
            sum.pool(&format!("{} of {}", pool.skill, pool.set), pool.share);
            self.names(pool, &mut sum);
        }
        sum.finish()
    }

    fn names(&self, pool: &Pool, sum: &mut DataSum) {
        for &item in &pool.items {
            sum.item(self.id(pool, item as usize));
        }
    }
}
