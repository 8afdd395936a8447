//! Threads that go through a step together.
//!
//! The team is the OpenMP team that libtorch's own kernels run on, entered once per step: a second pool would fight with its threads,
//! which spin for some milliseconds after each of libtorch's regions. Where libtorch brings another OpenMP than GNU's, threads
//! are started per step.

use std::any::Any;
use std::ffi::{c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Looks at a barrier before a thread lets others run: some ten microseconds.
const SPINS: u32 = 4096;

/// Entry points of GNU's OpenMP library in this process.
struct Gomp {
    parallel: unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint),
    thread: unsafe extern "C" fn() -> c_int,
    threads: unsafe extern "C" fn() -> c_int,
}

fn gomp() -> Option<&'static Gomp> {
    static GOMP: OnceLock<Option<Gomp>> = OnceLock::new();
    // SAFETY: the names are NUL-terminated.
    let find = |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    GOMP.get_or_init(|| {
        let (parallel, thread, threads) = (
            find(c"GOMP_parallel"),
            find(c"omp_get_thread_num"),
            find(c"omp_get_num_threads"),
        );
        if parallel.is_null() || thread.is_null() || threads.is_null() {
            return None;
        }
        // SAFETY: these are the signatures of the GNU OpenMP ABI (libgomp, since GOMP_4.0) and of the OpenMP standard.
        unsafe {
            Some(Gomp {
                parallel: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint),
                >(parallel),
                thread: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(thread),
                threads: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(threads),
            })
        }
    })
    .as_ref()
}

/// On a cache line of its own, with the neighbour that is fetched along.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

#[derive(Default)]
struct Meeting {
    arrived: Line<AtomicUsize>,
    round: Line<AtomicUsize>,
    next: Line<AtomicUsize>,
    broken: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What a worker that waits for one that panicked is stopped with.
struct Stopped;

/// So many threads, for one step after the other.
pub struct Team {
    threads: usize,
}

/// One thread of a team within a step.
pub struct Worker<'a> {
    index: usize,
    threads: usize,
    meeting: &'a Meeting,
}

impl Team {
    /// A team of `threads` threads (at least one), the caller's among them.
    pub fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
        }
    }

    /// Threads it has at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `body` on every thread of the team; returns when all have ended.
    ///
    /// # Panics
    /// With the payload of the first thread that panicked, after the others were stopped at their next barrier.
    pub fn run<F: Fn(&Worker<'_>) + Sync>(&self, body: F) {
        let meeting = Meeting::default();
        let work = |index: usize, threads: usize| {
            let worker = Worker {
                index,
                threads,
                meeting: &meeting,
            };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(&worker))) {
                meeting.broken.store(true, Ordering::Release);
                if !payload.is::<Stopped>() {
                    let mut first = meeting.panic.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(payload);
                }
            }
        };
        match gomp() {
            _ if self.threads == 1 => work(0, 1),
            Some(gomp) => in_gomp(gomp, self.threads, &work),
            None => std::thread::scope(|scope| {
                for index in 1..self.threads {
                    let work = &work;
                    scope.spawn(move || work(index, self.threads));
                }
                work(0, self.threads);
            }),
        }
        if let Some(payload) = meeting.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}

/// Calls `work` with its number and the number of threads on each thread of an OpenMP team.
fn in_gomp<W: Fn(usize, usize) + Sync>(gomp: &'static Gomp, threads: usize, work: &W) {
    unsafe extern "C" fn enter<W: Fn(usize, usize) + Sync>(data: *mut c_void) {
        // SAFETY: `data` is the pair below, which outlives the region; `W` is `Sync`.
        let (gomp, work) = unsafe { &*data.cast::<(&Gomp, &W)>() };
        // SAFETY: they take nothing. OpenMP may give fewer threads than were asked for.
        let (index, threads) = unsafe { ((gomp.thread)(), (gomp.threads)()) };
        work(index as usize, threads as usize);
    }
    let mut data = (gomp, work);
    // SAFETY: the region ends before this returns; `work` catches panics, so none crosses C.
    unsafe { (gomp.parallel)(enter::<W>, (&raw mut data).cast(), threads as c_uint, 0) }
}

impl Worker<'_> {
    /// Which of the team's threads this is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Waits for all threads of the team, and gives out the work of [`Worker::take`] anew.
    pub fn barrier(&self) {
        let meeting = self.meeting;
        let round = meeting.round.0.load(Ordering::Acquire);
        if meeting.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            meeting.next.0.store(0, Ordering::Relaxed);
            meeting.arrived.0.store(0, Ordering::Relaxed);
            meeting.round.0.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while meeting.round.0.load(Ordering::Acquire) == round {
            if meeting.broken.load(Ordering::Acquire) {
                resume_unwind(Box::new(Stopped));
            }
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// The next up to `each` of `total` pieces of work that no thread has taken since the last barrier. `None` when all are taken.
    pub fn take(&self, total: usize, each: usize) -> Option<Range<usize>> {
        let start = self.meeting.next.0.fetch_add(each, Ordering::Relaxed);
        (start < total).then(|| start..total.min(start + each))
    }
}

/// A buffer that the threads of a team write in parts.
pub struct Shared<'a, T> {
    data: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: gives out parts only under the promises of `part` and `part_mut`.
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}
// SAFETY: stands for a `&mut [T]`.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Shares `buffer` for as long as it is borrowed.
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self {
            data: buffer.as_mut_ptr(),
            len: buffer.len(),
            life: PhantomData,
        }
    }

    /// `len` elements from `start`, to read.
    ///
    /// # Safety
    /// No thread writes any of them before the next barrier.
    ///
    /// # Panics
    /// If they are not inside.
    pub unsafe fn part(&self, start: usize, len: usize) -> &[T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: inside, and not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.add(start), len) }
    }

    /// `len` elements from `start` and from `count - 1` places more that are `stride` apart, to write.
    ///
    /// # Safety
    /// As for [`Self::part_mut`].
    ///
    /// # Panics
    /// If they are not inside, or overlap.
    pub unsafe fn columns_mut(&self, start: usize, [count, len]: [usize; 2], stride: usize) -> Columns<'_, T> {
        let whole = count.saturating_sub(1) * stride + len;
        assert!(start <= self.len && whole <= self.len - start && (len <= stride || count < 2));
        Columns {
            // SAFETY: inside.
            data: unsafe { self.data.add(start) },
            shape: [count, len],
            stride,
            life: PhantomData,
        }
    }

    /// `len` elements from `start`, to write.
    ///
    /// # Safety
    /// Nobody else reads or writes any of them before the next barrier, and no other borrow of them is alive.
    ///
    /// # Panics
    /// If they are not inside.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part_mut(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: inside, and nobody else's by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

/// So many columns of rows of a [`Shared`] buffer, for one thread to write.
pub struct Columns<'a, T> {
    data: *mut T,
    shape: [usize; 2],
    stride: usize,
    life: PhantomData<&'a mut [T]>,
}

impl<T> Columns<'_, T> {
    /// The first row's.
    pub(super) fn data(&self) -> *mut T {
        self.data
    }

    /// How many rows, of how many elements.
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// From one row to the next, in elements.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_that_gets_fewer_threads_than_it_asks_for_knows_it_and_does_all_of_its_work() {
        Team::new(2).run(|outer| {
            if outer.index() > 0 {
                return;
            }
            // A region within another gets one thread of OpenMP, unless the environment says otherwise.
            let team = Team::new(4);
            let (came, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(|worker| {
                came.fetch_add(1, Ordering::Relaxed);
                told.store(worker.threads, Ordering::Relaxed);
            });
            // Else a barrier would wait for those that never come.
            assert_eq!(came.into_inner(), told.into_inner());
            let done = AtomicUsize::new(0);
            team.run(|worker| {
                for _ in 0..3 {
                    while let Some(pieces) = worker.take(100, 7) {
                        done.fetch_add(pieces.len(), Ordering::Relaxed);
                    }
                    worker.barrier();
                }
            });
            assert_eq!(done.into_inner(), 300);
        });
    }
}
