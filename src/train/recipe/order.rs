//! Which steps may be done at the same time.

use std::ops::Range;

use super::Planned;

/// Gives out steps as soon as what they read is there.
///
/// A step waits for those of its inputs that are still to be done, and for earlier steps that write to the same place, or read from it what was there
/// before. Of those that wait for nothing the first one in the recipe comes first.
#[derive(Debug)]
pub struct Order {
    /// Steps not given out, with those that each waits for.
    waiting: Vec<(usize, Vec<usize>)>,
}

impl Order {
    /// The order of the steps `chosen` of `plan`. What lies before them is not waited for.
    pub fn new(plan: &[Planned], chosen: Range<usize>) -> Self {
        let waits = |number: usize| {
            let step = &plan[number];
            let meets = |earlier: &Planned| {
                let mut places = earlier.names.iter().chain([&earlier.out]);
                places.any(|place| place.starts_with(&step.out) || step.out.starts_with(place))
            };
            let after = (chosen.start..number).filter(|n| step.inputs.contains(n) || meets(&plan[*n]));
            (number, after.collect())
        };
        Self {
            waiting: chosen.clone().map(waits).collect(),
        }
    }

    /// A step that may be begun, if there is one; it is not given out again.
    pub fn take(&mut self) -> Option<usize> {
        let free = self.waiting.iter().position(|(_, after)| after.is_empty())?;
        Some(self.waiting.remove(free).0)
    }

    /// Says that a step is done.
    pub fn finish(&mut self, number: usize) {
        for (_, after) in &mut self.waiting {
            after.retain(|n| *n != number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn step(out: &str, inputs: &[usize]) -> Planned {
        Planned {
            name: out.to_owned(),
            command: String::new(),
            settings: Value::Null,
            out: PathBuf::from(out),
            goes_on: true,
            names: Vec::new(),
            inputs: inputs.to_vec(),
            stamp: String::new(),
        }
    }

    fn all(order: &mut Order) -> Vec<usize> {
        std::iter::from_fn(|| order.take()).collect()
    }

    #[test]
    fn steps_that_read_nothing_of_one_another_are_given_out_at_once_and_the_others_when_their_inputs_are_done() {
        let plan = [step("a", &[]), step("b", &[0]), step("c", &[]), step("d", &[1, 2])];
        let mut order = Order::new(&plan, 0..4);
        assert_eq!(all(&mut order), [0, 2]);
        order.finish(2);
        assert!(all(&mut order).is_empty());
        order.finish(0);
        assert_eq!(all(&mut order), [1]);
        order.finish(1);
        assert_eq!(all(&mut order), [3]);
    }

    #[test]
    fn what_lies_before_the_chosen_steps_is_not_waited_for() {
        let plan = [step("a", &[]), step("b", &[0]), step("c", &[0, 1])];
        let mut order = Order::new(&plan, 1..3);
        assert_eq!(all(&mut order), [1]);
        order.finish(1);
        assert_eq!(all(&mut order), [2]);
    }

    #[test]
    fn two_steps_that_write_to_one_place_are_not_done_at_once() {
        let plan = [step("tune", &[]), step("tune", &[]), step("tune/more", &[])];
        let mut order = Order::new(&plan, 0..3);
        assert_eq!(all(&mut order), [0]);
        order.finish(0);
        assert_eq!(all(&mut order), [1]);
        order.finish(1);
        assert_eq!(all(&mut order), [2]);
    }

    #[test]
    fn a_step_that_writes_waits_for_an_earlier_one_that_reads_the_same_place() {
        let measures = |bundle: &str| Planned {
            names: vec![PathBuf::from(bundle)],
            ..step("measured", &[])
        };
        for (bundle, waits) in [
            ("tune/bundle", true),
            ("tune", true),
            ("tune/bundle/vqgan", true),
            ("tuned", false),
        ] {
            let plan = [measures(bundle), step("tune/bundle", &[])];
            let mut order = Order::new(&plan, 0..2);
            assert_eq!(all(&mut order).len(), if waits { 1 } else { 2 }, "{bundle}");
        }
    }

    proptest! {
        #[test]
        fn every_step_is_given_out_once_and_never_before_what_it_reads(
            links in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..12),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 12),
            beside in 1_usize..4,
        ) {
            let inputs = |n: usize| links[n].iter().filter(|_| n > 0).map(|i| i.index(n)).collect::<Vec<_>>();
            let plan: Vec<_> = (0..links.len()).map(|n| step(&format!("s{n}"), &inputs(n))).collect();
            let mut order = Order::new(&plan, 0..plan.len());
            let (mut running, mut done, mut picks) = (Vec::new(), Vec::new(), picks.into_iter());
            loop {
                while running.len() < beside {
                    let Some(number) = order.take() else { break };
                    prop_assert!(plan[number].inputs.iter().all(|n| done.contains(n)));
                    running.push(number);
                }
                if running.is_empty() {
                    break;
                }
                let ended = running.remove(picks.next().unwrap().index(running.len()));
                order.finish(ended);
                done.push(ended);
            }
            done.sort_unstable();
            prop_assert_eq!(done, (0..plan.len()).collect::<Vec<_>>());
        }
    }
}
