//! Whether the examples are those of before.

use super::{Examples, Pool, Skill};
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

    /// Checksum of what the examples say that are drawn from in training: texts, and codes of images. Names do not tell: a line of a file
    /// is called by its number.
    pub fn contents(&self) -> String {
        let mut sum = DataSum::default();
        for pool in &self.pools {
            sum.count(pool.items.len());
            for &item in &pool.items {
                self.content(pool, item as usize, &mut sum);
            }
        }
        sum.finish()
    }

    fn content(&self, pool: &Pool, item: usize, sum: &mut DataSum) {
        if pool.skill == Skill::Text {
            let (_, _, plain) = &self.corpus.texts[pool.set].texts[item];
            sum.item(&plain.instruction);
            // An empty context is asked about in other words than none.
            sum.count(usize::from(plain.context.is_some()));
            sum.item(plain.context.as_deref().unwrap_or_default());
            sum.item(&plain.response);
            return;
        }
        let set = &self.corpus.sets[pool.set];
        let image = &set.images[item];
        let codes: Vec<u8> = set.codes(image).iter().flat_map(|code| code.to_le_bytes()).collect();
        sum.bytes(&codes);
        if pool.skill != Skill::Vqa {
            sum.item(set.report(image).unwrap_or_default());
            return;
        }
        let questions = set.questions(image);
        sum.count(questions.len());
        for pair in questions {
            sum.item(set.text(pair.question));
            sum.item(set.text(pair.answer));
        }
    }
}
