//! Which example comes when: a function of seed and number alone.

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
    pub item: usize,
}

/// A pass and the order of its items.
type Pass = (u64, Arc<Vec<u32>>);

/// Pools of examples mixed by their shares; each is gone through whole, in a new order every time.
#[derive(Debug)]
pub struct Order {
    /// Number of items and share of each pool.
    pools: Vec<(usize, f64)>,
    seed: u64,
    passes: Mutex<HashMap<usize, Pass>>,
}

impl Order {
    /// Pools as (items, share); all must have items and a positive share, and there must be one.
    pub fn new(pools: Vec<(usize, f64)>, seed: u64) -> Self {
        Self {
            pools,
            seed,
            passes: Mutex::default(),
        }
    }

    /// How many examples it takes until every item of every pool has come up.
    pub fn epoch(&self) -> u64 {
        let total: f64 = self.pools.iter().map(|p| p.1).sum();
        let needed = self.pools.iter().map(|(items, share)| *items as f64 * total / share);
        needed.fold(0.0, f64::max).ceil() as u64
    }

    /// The example at `position`.
    pub fn draw(&self, position: u64) -> Draw {
        let (mut pool, mut within) = (0, position);
        // Split off the last pool evenly, then the one before it, …: every stretch holds each pool by its share.
        for last in (1..self.pools.len()).rev() {
            let total: f64 = self.pools[..=last].iter().map(|p| p.1).sum();
            let share = self.pools[last].1 / total;
            let given = |p: u64| (p as f64 * share).floor() as u64;
            if given(within + 1) > given(within) {
                (pool, within) = (last, given(within));
                break;
            }
            within -= given(within);
        }
        let items = self.pools[pool].0.max(1) as u64;
        let (pass, place) = (within / items, (within % items) as usize);
        let item = self.pass(pool, pass)[place] as usize;
        Draw { pool, pass, item }
    }

    fn pass(&self, pool: usize, pass: u64) -> Arc<Vec<u32>> {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = passes.get(&pool).filter(|(known, _)| *known == pass) {
            return order.clone();
        }
        let mut order: Vec<u32> = (0..self.pools[pool].0.max(1) as u32).collect();
        order.shuffle(&mut generator(self.seed, Purpose::Order, (pool as u64) << 40 | pass));
        let order = Arc::new(order);
        passes.insert(pool, (pass, order.clone()));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_in_each_pass_through_its_pool() {
        let order = Order::new(vec![(7, 0.3), (40, 0.5), (3, 0.2)], 5);
        let mut seen: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
        for position in 0..1000 {
            let draw = order.draw(position);
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
        let order = Order::new(vec![(1000, 3.0), (1000, 1.0), (1000, 1.0)], 1);
        for start in [0, 17, 12_345] {
            let of = |pool| (start..start + 50).filter(|&p| order.draw(p).pool == pool).count();
            assert!((29..=31).contains(&of(0)) && (9..=11).contains(&of(1)) && (9..=11).contains(&of(2)));
        }
    }

    #[test]
    fn the_order_depends_on_the_seed_and_not_on_what_was_asked_before() {
        let make = |seed| Order::new(vec![(50, 1.0), (20, 0.25)], seed);
        let (forward, backward) = (make(3), make(3));
        let there: Vec<Draw> = (0..300).map(|p| forward.draw(p)).collect();
        let mut back: Vec<Draw> = (0..300).rev().map(|p| backward.draw(p)).collect();
        back.reverse();
        assert_eq!(there, back);
        assert_ne!(there, (0..300).map(|p| make(4).draw(p)).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_ends_when_the_last_pool_is_used_up() {
        let order = Order::new(vec![(80, 0.8), (10, 0.2)], 1);
        assert_eq!(order.epoch(), 100);
        let order = Order::new(vec![(80, 0.8), (100, 0.2)], 1);
        assert_eq!(order.epoch(), 500);
    }
}
