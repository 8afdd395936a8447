//! Order, bounds and shares of the admission queue.

use super::*;
use proptest::prelude::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_full_queue_hands_the_job_back() {
    let now = Instant::now();
    let mut queue = Queue::new(1, 100);
    queue.push(Caller::ONLY, "first", 10, None, now).unwrap();
    let full = queue.push(Caller::ONLY, "second", 10, None, now).unwrap_err();
    assert_eq!(full.item, "second");
    assert!(RETRY.contains(&full.why.retry_after));
    assert_eq!((queue.len(), queue.bytes()), (1, 10));
}

#[test]
fn what_waits_is_bounded_in_bytes_not_only_in_jobs() {
    let now = Instant::now();
    let mut queue = Queue::new(100, 25);
    queue.push(Caller::ONLY, 1, 20, None, now).unwrap();
    assert_eq!(queue.push(Caller::ONLY, 2, 6, None, now).unwrap_err().item, 2);
    assert_eq!(queue.push(Caller::ONLY, 3, usize::MAX, None, now).unwrap_err().item, 3);
    queue.push(Caller::ONLY, 4, 5, None, now).unwrap();
    assert_eq!(queue.pop(), Some(1));
    queue.push(Caller::ONLY, 5, 20, None, now).unwrap();
    assert_eq!(queue.bytes(), 25);
}

#[test]
fn few_pass_the_first_and_only_those_that_may() {
    let now = Instant::now();
    let mut queue = Queue::new(100, 1000);
    for item in 0..60 {
        queue.push(Caller::ONLY, item, 1, None, now).unwrap();
    }
    let mut passing = Vec::new();
    while let Some(item) = queue.pop_if(|item, place| place == Standing::Behind && item % 2 == 1) {
        passing.push(item);
    }
    assert_eq!(passing, (0..MOST_PASSES).map(|n| 2 * n + 1).collect::<Vec<_>>());
    assert_eq!((queue.len(), queue.bytes()), (44, 44));
    assert_eq!(queue.pop_if(|_, place| place == Standing::First), Some(0));
    assert_eq!(
        queue.pop_if(|&item, place| place == Standing::Behind && item == 33),
        Some(33)
    );
    // Sixteen have passed the one that is first now.
    assert_eq!(queue.pop_if(|_, place| place == Standing::Behind), None);
    assert_eq!((queue.pop(), queue.pop()), (Some(2), Some(4)));
}

#[test]
fn who_left_and_who_is_late_never_reaches_a_batch() {
    let now = Instant::now();
    let mut queue = Queue::new(10, 100);
    queue.push(Caller::ONLY, 1, 1, None, now).unwrap();
    queue.push(Caller::ONLY, 2, 1, Some(now + seconds(1)), now).unwrap();
    queue.push(Caller::ONLY, 3, 1, Some(now + seconds(3)), now).unwrap();
    let removed = queue.sweep(now + seconds(2), |&item| item == 1);
    assert_eq!(removed, vec![(1, Removed::Left), (2, Removed::Late)]);
    assert_eq!((queue.pop(), queue.pop(), queue.bytes()), (Some(3), None, 0));
}

#[test]
fn the_advice_follows_the_recent_pace_and_the_room_needed() {
    let start = Instant::now();
    let mut queue = Queue::new(10, 40);
    for i in 0..4 {
        queue.push(Caller::ONLY, i, 10, None, start).unwrap();
    }
    assert_eq!(
        queue
            .push(Caller::ONLY, 9, 10, None, start)
            .unwrap_err()
            .why
            .retry_after,
        RETRY_UNKNOWN
    );
    queue.departed(2, false, start + seconds(20));
    let now = start + seconds(25);
    assert_eq!(
        queue.push(Caller::ONLY, 9, 10, None, now).unwrap_err().why.retry_after,
        seconds(10)
    );
    assert_eq!(
        queue.push(Caller::ONLY, 9, 25, None, now).unwrap_err().why.retry_after,
        seconds(30)
    );
    assert_eq!(
        queue
            .push(Caller::ONLY, 9, 10, None, start + seconds(50))
            .unwrap_err()
            .why
            .retry_after,
        seconds(30),
        "it has become slower"
    );
    assert_eq!(
        queue
            .push(Caller::ONLY, 9, 10, None, start + seconds(10_000))
            .unwrap_err()
            .why
            .retry_after,
        *RETRY.end()
    );
}

#[test]
fn a_rest_does_not_count_as_slowness() {
    let start = Instant::now();
    let mut queue = Queue::new(1, 100);
    queue.push(Caller::ONLY, 1, 1, None, start).unwrap();
    queue.pop();
    queue.departed(1, true, start + seconds(4));
    let later = start + seconds(3600);
    queue.push(Caller::ONLY, 2, 1, None, later).unwrap();
    assert_eq!(
        queue.push(Caller::ONLY, 3, 1, None, later).unwrap_err().why.retry_after,
        seconds(4)
    );
}

const A: Caller = Caller::numbered(0);
const B: Caller = Caller::numbered(1);
const C: Caller = Caller::numbered(2);

/// A large queue with these items, each of its caller.
fn with(items: &[(Caller, u32)]) -> Queue<(Caller, u32)> {
    let mut queue = Queue::new(1000, 1000);
    for &(caller, number) in items {
        queue
            .push(caller, (caller, number), 1, None, Instant::now())
            .expect("room");
    }
    queue
}

#[test]
fn who_comes_now_is_before_all_that_were_served_since_it_was() {
    let mut queue = with(&[(A, 0), (A, 1), (A, 2), (A, 3)]);
    assert_eq!(queue.pop(), Some((A, 0)));
    let now = Instant::now();
    for number in 0..3 {
        queue.push(B, (B, number), 1, None, now).unwrap();
    }
    assert_eq!([queue.pop(), queue.pop()], [Some((B, 0)), Some((A, 1))]);
    queue.push(C, (C, 0), 1, None, now).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, [(C, 0), (B, 1), (A, 2), (B, 2), (A, 3)]);
    // Who had nothing here for a while has not lost its turn, nor gained any.
    queue.push(A, (A, 4), 1, None, now).unwrap();
    queue.push(C, (C, 1), 1, None, now).unwrap();
    assert_eq!([queue.pop(), queue.pop()], [Some((C, 1)), Some((A, 4))]);
}

#[test]
fn who_asks_for_one_at_a_time_takes_turns_with_who_asks_for_many() {
    let mut queue = with(&[(A, 0), (A, 1), (A, 2), (B, 0)]);
    let mut order = Vec::new();
    while let Some((caller, number)) = queue.pop() {
        order.push((caller, number));
        if caller == B && number < 2 {
            let next = (B, number + 1);
            queue.push(B, next, 1, None, Instant::now()).unwrap();
        }
    }
    assert_eq!(order, [(A, 0), (B, 0), (A, 1), (B, 1), (A, 2), (B, 2)]);
}

#[test]
fn callers_that_come_no_more_are_forgotten_but_not_while_one_waits_whom_they_have_passed() {
    let now = Instant::now();
    let come = |queue: &mut Queue<(Caller, u32)>, caller| queue.push(caller, (caller, 0), 1, None, now).unwrap();
    let callers = || (10..10 + 3 * REMEMBERED as u32).map(Caller::numbered);
    let mut queue = with(&[]);
    for caller in callers() {
        come(&mut queue, caller);
        assert_eq!(queue.pop(), Some((caller, 0)));
        assert!(queue.lines.len() <= REMEMBERED);
    }
    let mut queue = with(&[(A, 0), (A, 1), (A, 2)]);
    assert_eq!(queue.pop(), Some((A, 0)));
    for caller in callers() {
        come(&mut queue, caller);
        assert_eq!(queue.pop(), Some((caller, 0)));
    }
    for caller in callers().take(2) {
        come(&mut queue, caller);
    }
    come(&mut queue, B);
    let order = [(); 4].map(|()| queue.pop().map(|(caller, _)| caller));
    let again: Vec<_> = callers().take(2).collect();
    assert_eq!(order, [Some(B), Some(A), Some(again[0]), Some(again[1])]);
}

#[test]
fn whoever_fills_the_queue_leaves_room_for_others_and_who_is_alone_none() {
    let now = Instant::now();
    let mut queue = Queue::new(8, 1000);
    for _ in 0..6 {
        queue.push(A, A, 1, None, now).unwrap();
    }
    assert_eq!(queue.push(A, A, 1, None, now).unwrap_err().why.held, Some(6));
    queue.push(B, B, 1, None, now).unwrap();
    assert_eq!(queue.push(B, B, 1, None, now).unwrap_err().why.held, Some(1));
    queue.push(C, C, 1, None, now).unwrap();
    let full = queue.push(Caller::numbered(3), C, 1, None, now).unwrap_err();
    assert_eq!((full.why.held, queue.len()), (None, 8), "it is full");
    let mut alone = Queue::new(8, 1000);
    for _ in 0..8 {
        alone.push(Caller::ONLY, (), 1, None, now).unwrap();
    }
    assert_eq!(alone.push(Caller::ONLY, (), 1, None, now).unwrap_err().why.held, None);
}

#[test]
fn bytes_are_shared_as_jobs_are_and_the_first_may_be_as_large_as_there_is_room() {
    let now = Instant::now();
    let mut queue = Queue::new(100, 100);
    queue.push(A, 0, 50, None, now).unwrap();
    queue.push(A, 1, 25, None, now).unwrap();
    assert_eq!(queue.push(A, 2, 1, None, now).unwrap_err().why.held, Some(2));
    queue.push(B, 0, 25, None, now).unwrap();
    assert_eq!((queue.pop(), queue.pop(), queue.bytes()), (Some(0), Some(0), 25));
    queue.push(A, 2, 1, None, now).unwrap();
}

#[test]
fn those_on_their_way_count_as_those_that_wait() {
    let now = Instant::now();
    let queue: Queue<()> = Queue::new(8, 100);
    let held = |caller, own, all| {
        let full = queue.full_beside(caller, Preparing { own, all }, now);
        full.map(|why| why.held)
    };
    assert_eq!(held(A, 5, 5), None);
    assert_eq!(held(A, 6, 6), Some(Some(6)));
    assert_eq!(held(B, 0, 7), None);
    assert_eq!(held(B, 0, 8), Some(None));
    assert_eq!(held(Caller::ONLY, 7, 7), None);
}

#[test]
fn callers_whose_small_jobs_pass_a_large_one_take_turns_and_few_pass() {
    let many = |caller| (1..20).map(move |number| (caller, number));
    let items: Vec<_> = [(A, 0)].into_iter().chain(many(B)).chain(many(C)).collect();
    let mut queue = with(&items);
    let small = |item: &(Caller, u32), place: Standing| place == Standing::Behind && item.1 > 0;
    let passing: Vec<_> = std::iter::from_fn(|| queue.pop_if(small)).collect();
    let turns = (1..=MOST_PASSES / 2).flat_map(|number| [(B, number), (C, number)]);
    assert_eq!(passing, turns.collect::<Vec<_>>());
    assert_eq!(queue.pop(), Some((A, 0)), "it is still its turn");
    assert_eq!(queue.pop(), Some((B, MOST_PASSES / 2 + 1)));
}

#[test]
fn who_is_passed_by_its_own_callers_small_ones_keeps_its_turn() {
    let mut queue = with(&[(A, 0), (A, 1), (B, 0), (B, 2)]);
    let small = |item: &(Caller, u32), place: Standing| place == Standing::Behind && item.1 == 1;
    assert_eq!(queue.pop_if(small), Some((A, 1)));
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, [(A, 0), (B, 0), (B, 2)]);
}

#[test]
fn who_comes_first_is_behind_those_that_wait_for_their_first_turn_also_where_one_was_passed_by_its_own() {
    let mut queue = with(&[(A, 0), (A, 1), (B, 0)]);
    let small = |item: &(Caller, u32), place: Standing| place == Standing::Behind && item.1 == 1;
    assert_eq!(queue.pop_if(small), Some((A, 1)));
    queue.push(C, (C, 0), 1, None, Instant::now()).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, [(A, 0), (B, 0), (C, 0)]);
}

proptest! {
    #[test]
    fn order_is_kept_and_bytes_add_up(ops in prop::collection::vec((0u8..4, 0usize..50), 0..200)) {
        let now = Instant::now();
        let mut queue = Queue::new(8, 120);
        let mut expected: VecDeque<(usize, usize)> = VecDeque::new();
        for (number, (op, bytes)) in ops.into_iter().enumerate() {
            match op {
                0 | 1 => match queue.push(Caller::ONLY, (number, bytes), bytes, None, now) {
                    Ok(()) => expected.push_back((number, bytes)),
                    Err(full) => prop_assert_eq!(full.item, (number, bytes)),
                },
                2 => prop_assert_eq!(queue.pop(), expected.pop_front()),
                _ => {
                    queue.sweep(now, |&(n, _)| n % 3 == 0);
                    expected.retain(|&(n, _)| n % 3 != 0);
                }
            }
            prop_assert_eq!(queue.len(), expected.len());
            prop_assert_eq!(queue.bytes(), expected.iter().map(|e| e.1).sum::<usize>());
            prop_assert!(queue.len() <= 8 && queue.bytes() <= 120);
        }
    }

    #[test]
    fn callers_take_turns_each_in_its_own_order_and_nothing_is_lost(
        ops in prop::collection::vec((0u8..6, 0u32..4, 0usize..30), 0..300),
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(12, 200);
        let mut waiting: Vec<VecDeque<(usize, usize)>> = vec![VecDeque::new(); 4];
        let mut last_turn = [0; 4];
        for (number, (op, caller, bytes)) in ops.into_iter().enumerate() {
            let of = caller as usize;
            match op {
                0..=2 => match queue.push(Caller::numbered(caller), (of, number, bytes), bytes, None, now) {
                    Ok(()) => waiting[of].push_back((number, bytes)),
                    Err(full) => {
                        prop_assert_eq!(full.item, (of, number, bytes));
                        // Who has nothing here is refused only where nobody finds room.
                        prop_assert!(full.why.held.is_none() || !waiting[of].is_empty());
                    }
                },
                3 | 4 => {
                    let taken = match op {
                        3 => queue.pop(),
                        _ => queue.pop_if(|_, place| place == Standing::First),
                    };
                    let longest = (0..4).filter(|&one| !waiting[one].is_empty()).map(|one| last_turn[one]).min();
                    prop_assert_eq!(taken.is_some(), longest.is_some());
                    if let (Some((of, taken, bytes)), Some(longest)) = (taken, longest) {
                        prop_assert_eq!(waiting[of].pop_front(), Some((taken, bytes)));
                        prop_assert_eq!(last_turn[of], longest);
                        last_turn[of] = number + 1;
                    }
                }
                _ => {
                    queue.sweep(now, |&(_, n, _)| n % 3 == 0);
                    waiting.iter_mut().for_each(|line| line.retain(|&(n, _)| n % 3 != 0));
                }
            }
            prop_assert_eq!(queue.len(), waiting.iter().map(VecDeque::len).sum::<usize>());
            prop_assert_eq!(queue.bytes(), waiting.iter().flatten().map(|one| one.1).sum::<usize>());
            prop_assert!(queue.len() <= 12 && queue.bytes() <= 200);
        }
    }

    #[test]
    fn whoever_passes_nobody_is_passed_by_many(choices in prop::collection::vec((0u32..3, 0u8..4), 1..400)) {
        let now = Instant::now();
        let mut queue = Queue::new(1000, 1000);
        let mut passed = std::collections::BTreeMap::new();
        for (number, (caller, choice)) in choices.into_iter().enumerate() {
            let caller = Caller::numbered(caller);
            if choice < 2 {
                let pushed = queue.push(caller, (caller, number), 1, None, now);
                passed.extend(pushed.is_ok().then_some(((caller, number), 0)));
                continue;
            }
            let taken = queue.pop_if(|&(_, n), place| match place {
                Standing::First => choice == 3 && n % 2 == 0,
                Standing::Behind => n % 3 == 0,
            });
            if let Some((caller, number)) = taken {
                passed.remove(&(caller, number));
                for (_, times) in passed.range_mut((caller, 0)..(caller, number)) {
                    *times += 1;
                }
            }
            prop_assert_eq!(queue.len(), passed.len());
            prop_assert!(passed.values().all(|&times| times <= MOST_PASSES));
        }
    }
}
