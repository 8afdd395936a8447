//! Which item of which pool comes when: a function of seed and number alone. Images of a stream and examples of `finetune` come in this order. What
//! is taken up goes on with it, so that it stays as it is, bit for bit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::seq::SliceRandom;

use crate::train::common::random::{Purpose, generator};

/// A place in the mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Which pool.
    pub pool: usize,
    /// How often the pool has been gone through before.
    pub pass: u64,
    /// Which of its items.
    pub item: u64,
}

/// A pass and the order of its items.
type Pass = (u64, Arc<Vec<u32>>);

/// Pools mixed by their shares; each is gone through whole, in a new order every time.
#[derive(Debug)]
pub struct Mixture {
    /// Number of items and share of each pool.
    pools: Vec<(Option<u64>, f64)>,
    seed: u64,
    passes: Mutex<HashMap<usize, Pass>>,
}

impl Mixture {
    /// Pools as (items, share): all must have items (`None`: without end, in their own order) and a positive share.
    pub fn new(pools: Vec<(Option<u64>, f64)>, seed: u64) -> Self {
        Self {
            pools,
            seed,
            passes: Mutex::default(),
        }
    }

    /// How many draws it takes until every item of every pool that has an end has come up.
    pub fn epoch(&self) -> u64 {
        let total: f64 = self.pools.iter().map(|p| p.1).sum();
        let ending = self.pools.iter().filter_map(|(items, share)| Some(((*items)?, share)));
        let needed = ending.map(|(items, share)| items as f64 * total / share);
        needed.fold(0.0, f64::max).ceil() as u64
    }

    /// What comes at `position`; `None` where there is no pool.
    pub fn draw(&self, position: u64) -> Option<Draw> {
        let (pool, own) = deal(self.pools.len(), |n| self.pools[n].1, position);
        self.at(pool, own)
    }

    /// Which of `pools` (by its place among them) stands at `position` of the mixture of these alone, and at which position of its own.
    pub fn among(&self, pools: &[usize], position: u64) -> (usize, u64) {
        deal(pools.len(), |n| self.pools[pools[n]].1, position)
    }

    /// What comes at its own `position` of a pool; `None` where there is no such pool.
    pub fn at(&self, pool: usize, position: u64) -> Option<Draw> {
        let Some(items) = self.pools.get(pool)?.0 else {
            let (pass, item) = (0, position);
            return Some(Draw { pool, pass, item });
        };
        let items = items.max(1);
        let (pass, place) = (position / items, (position % items) as usize);
        let item = u64::from(*self.pass(pool, items, pass).get(place)?);
        Some(Draw { pool, pass, item })
    }

    fn pass(&self, pool: usize, items: u64, pass: u64) -> Arc<Vec<u32>> {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = passes.get(&pool).filter(|(known, _)| *known == pass) {
            return order.clone();
        }
        let mut order: Vec<u32> = (0..items as u32).collect();
        order.shuffle(&mut generator(self.seed, Purpose::Order, (pool as u64) << 40 | pass));
        let order = Arc::new(order);
        passes.insert(pool, (pass, order.clone()));
        order
    }
}

/// Which of `pools` pools stands at `position` of their mixture, and at which position of its own. `share` gives their shares.
fn deal(pools: usize, share: impl Fn(usize) -> f64, mut position: u64) -> (usize, u64) {
    // Split off the last pool evenly, then the one before it, …: every stretch holds each pool by its share.
    for last in (1..pools).rev() {
        let total: f64 = (0..=last).map(&share).sum();
        let part = share(last) / total;
        let given = |p: u64| (p as f64 * part).floor() as u64;
        if given(position + 1) > given(position) {
            return (last, given(position));
        }
        position -= given(position);
    }
    (0, position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixture(pools: &[(u64, f64)], seed: u64) -> Mixture {
        Mixture::new(pools.iter().map(|&(items, share)| (Some(items), share)).collect(), seed)
    }

    #[test]
    fn every_item_comes_once_in_each_pass_through_its_pool() {
        let mixture = mixture(&[(7, 0.3), (40, 0.5), (3, 0.2)], 5);
        let mut seen: HashMap<(usize, u64), Vec<u64>> = HashMap::new();
        for position in 0..1000 {
            let draw = mixture.draw(position).unwrap();
            seen.entry((draw.pool, draw.pass)).or_default().push(draw.item);
        }
        let newest = |pool| seen.keys().filter(|k| k.0 == pool).map(|k| k.1).max().unwrap();
        for ((pool, pass), items) in &seen {
            let (mut sorted, whole) = (items.clone(), [7, 40, 3][*pool]);
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), items.len(), "nothing comes twice");
            assert!(items.len() == whole || *pass == newest(*pool));
        }
        assert_ne!(seen[&(1, 0)], seen[&(1, 1)]);
    }

    #[test]
    fn any_stretch_holds_each_pool_by_its_share() {
        let mixture = mixture(&[(1000, 3.0), (1000, 1.0), (1000, 1.0)], 1);
        for start in [0, 17, 12_345] {
            let drawn = |p| mixture.draw(p).unwrap().pool;
            let of = |pool| (start..start + 50).filter(|&p| drawn(p) == pool).count();
            assert!((29..=31).contains(&of(0)) && (9..=11).contains(&of(1)) && (9..=11).contains(&of(2)));
        }
    }

    #[test]
    fn the_order_depends_on_the_seed_and_not_on_what_was_asked_before() {
        let make = |seed| mixture(&[(50, 1.0), (20, 0.25)], seed);
        let draw = |mixture: &Mixture, position| mixture.draw(position).unwrap();
        let (forward, backward) = (make(3), make(3));
        let there: Vec<Draw> = (0..300).map(|p| draw(&forward, p)).collect();
        let mut back: Vec<Draw> = (0..300).rev().map(|p| draw(&backward, p)).collect();
        back.reverse();
        assert_eq!(there, back);
        assert_ne!(there, (0..300).map(|p| draw(&make(4), p)).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_ends_when_the_last_pool_is_used_up() {
        assert_eq!(mixture(&[(80, 0.8), (10, 0.2)], 1).epoch(), 100);
        assert_eq!(mixture(&[(80, 0.8), (100, 0.2)], 1).epoch(), 500);
        // One without end is never used up.
        let endless = Mixture::new(vec![(Some(80), 0.8), (None, 0.2)], 1);
        assert_eq!(endless.epoch(), 100);
    }

    #[test]
    fn without_pools_there_is_nothing_to_draw_and_one_without_end_comes_in_its_own_order() {
        assert_eq!(mixture(&[], 1).draw(5), None);
        let endless = Mixture::new(vec![(None, 1.0)], 1);
        assert_eq!(
            endless.draw(5),
            Some(Draw {
                pool: 0,
                pass: 0,
                item: 5
            })
        );
    }

    #[test]
    fn some_pools_alone_are_mixed_as_if_there_were_no_others() {
        let (all, two) = (
            mixture(&[(9, 1.0), (9, 5.0), (9, 0.5)], 1),
            mixture(&[(9, 1.0), (9, 0.5)], 1),
        );
        for position in 0..100 {
            assert_eq!(all.among(&[0, 2], position), two.among(&[0, 1], position));
        }
    }
}
