//! Where pixels are decoded and encoded: on blocking threads, a bounded number at a time.
//!
//! A decoded image can be a thousand times its file, so what bounds memory is how many are open at once. Files that
//! wait for a worker are bounded by whoever read them (the body budget of the HTTP room).
//!
//! Of one caller no more stand in the line for workers, or are worked on, than there are workers; the others wait in a line of its own. So who
//! comes now waits for what is worked on, and not for all the images that another has sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dicom::DicomReader;
use super::{ServiceError, blocking};
use crate::engine::Caller;
use crate::radiograph::{
    self, DecodeLimits, DicomFacts, ImageFormat, ImageNote, Pixels, Preprocess, RadiographError, Raster,
};

/// An image as the model takes it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The model's square.
    pub pixels: Arc<Pixels>,
    /// What is unusual about the image, before it was fitted.
    pub notes: Vec<ImageNote>,
}

impl Seen {
    /// The model's square of a picture, with what is to be noted of it.
    fn of(raster: &Raster, facts: DicomFacts, side: usize) -> Self {
        Self {
            pixels: Arc::new(radiograph::for_model(raster, side)),
            notes: radiograph::image_notes(raster, facts, side),
        }
    }

    /// The same, where the file says that it is synthetic: that is to be known before all else.
    fn synthetic(mut self) -> Self {
        self.notes.insert(0, ImageNote::Synthetic);
        self
    }
}

/// Reads and writes radiographs. Cheap to clone; clones share the workers.
#[derive(Clone, Debug)]
pub struct ImageDesk {
    workers: Arc<Semaphore>,
    /// Places of the caller whose desk this is.
    own: Arc<Semaphore>,
    callers: Callers,
    waiting: Arc<AtomicUsize>,
    limits: DecodeLimits,
    preprocess: Preprocess,
    side: usize,
    dicom: Option<DicomReader>,
}

/// An image that waits for a worker, counted until it has one or nobody waits for it any more.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Each caller's own places, as many as there are workers; nothing of those for whom nothing is done, as keys come and go.
#[derive(Clone, Debug)]
struct Callers {
    places: usize,
    known: Arc<Mutex<BTreeMap<Caller, Arc<Semaphore>>>>,
}

impl Callers {
    fn places_of(&self, caller: Caller) -> Arc<Semaphore> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = known.get(&caller) {
            return Arc::clone(own);
        }
        // A caller's desks, and whoever waits or works at them, hold its places; new ones come from here alone.
        known.retain(|_, own| Arc::strong_count(own) > 1);
        let own = Arc::new(Semaphore::new(self.places));
        known.insert(caller, Arc::clone(&own));
        own
    }
}

/// A worker, held until its work ends. The worker is given back before the caller's own place, so that another caller that waits comes first.
struct Place {
    _worker: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

async fn permit(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ServiceError> {
    let permit = Arc::clone(places).acquire_owned().await;
    permit.map_err(|_| ServiceError::Worker)
}

impl ImageDesk {
    /// A desk with `workers` places that makes `side × side` images for the model.
    pub fn new(workers: usize, limits: DecodeLimits, preprocess: Preprocess, side: usize) -> Self {
        let callers = Callers {
            places: workers.max(1),
            known: Arc::default(),
        };
        Self {
            workers: Arc::new(Semaphore::new(callers.places)),
            own: callers.places_of(Caller::ONLY),
            callers,
            waiting: Arc::default(),
            limits,
            preprocess,
            side,
            dicom: None,
        }
    }

    /// The same, which reads DICOM files too.
    pub fn with_dicom(self, reader: DicomReader) -> Self {
        Self {
            dicom: Some(reader),
            ..self
        }
    }

    /// The same for this caller.
    pub fn of(&self, caller: Caller) -> Self {
        Self {
            own: self.callers.places_of(caller),
            ..self.clone()
        }
    }

    /// What is decoded at most.
    pub fn limits(&self) -> &DecodeLimits {
        &self.limits
    }

    /// Images that wait for a worker now, of all callers: to be read, or to be written.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reads a PNG, JPEG or DICOM file into the model's pixels.
    ///
    /// A picture of one level is refused: the model would write a report of it all the same, and all its readings would agree.
    pub async fn read(&self, file: Bytes) -> Result<Seen, ServiceError> {
        let seen = if radiograph::is_dicom(&file) {
            self.read_dicom(file).await?
        } else {
            let desk = self.clone();
            let read = move || {
                let raster = radiograph::read(&file, &desk.limits, desk.preprocess)?;
                let seen = Seen::of(&raster, DicomFacts::default(), desk.side);
                Ok::<_, RadiographError>(match radiograph::says_synthetic(&file) {
                    true => seen.synthetic(),
                    false => seen,
                })
            };
            self.work(read).await??
        };
        if seen.pixels.are_alike() {
            return Err(RadiographError::OneLevel.into());
        }
        Ok(seen)
    }

    async fn read_dicom(&self, file: Bytes) -> Result<Seen, ServiceError> {
        let reader = self.dicom.as_ref().ok_or(ServiceError::DicomOff)?;
        let place = self.place().await?;
        let (raster, facts) = reader.read(&file, &self.limits).await?;
        let side = self.side;
        let fit = move || {
            let _place = place;
            Seen::of(&raster, facts, side)
        };
        blocking(fit).await.map_err(|_| ServiceError::Worker)
    }

    /// Writes a drawn image; its metadata says that it is synthetic and what it is not for.
    pub async fn write_synthetic(&self, pixels: Arc<Pixels>, format: ImageFormat) -> Result<Vec<u8>, ServiceError> {
        const NOTES: [(&str, &str); 3] = [
            ("Title", "Synthetic chest X-ray"),
            ("Synthetic", "true"),
            ("Disclaimer", crate::RESEARCH_NOTICE),
        ];
        Ok(self.work(move || radiograph::write(&pixels, format, &NOTES)).await??)
    }

    async fn place(&self) -> Result<Place, ServiceError> {
        let _waiting = Waiting::among(&self.waiting);
        let own = permit(&self.own).await?;
        let worker = permit(&self.workers).await?;
        Ok(Place {
            _worker: worker,
            _own: own,
        })
    }

    /// Runs `work` on a blocking thread once there is a place. The place is held until the work ends, even if its caller leaves.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
        let place = self.place().await?;
        let done = blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|_| ServiceError::Worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(file: Vec<u8>, preprocess: Preprocess) -> Option<ServiceError> {
        let desk = ImageDesk::new(1, DecodeLimits::default(), preprocess, 16);
        desk.read(file.into()).await.err()
    }

    #[track_caller]
    fn assert_one_level(refusal: Option<ServiceError>) {
        assert!(
            matches!(refusal, Some(ServiceError::Image(RadiographError::OneLevel))),
            "{refusal:?}"
        );
    }

    #[tokio::test]
    async fn who_comes_now_waits_for_what_is_worked_on_and_not_for_all_that_another_has_sent() {
        use futures::poll;
        let desk = ImageDesk::new(1, DecodeLimits::default(), Preprocess::Default, 16);
        let [many, one] = [0, 1].map(|number| desk.of(Caller::numbered(number)));
        let held = many.place().await.expect("a free worker");
        let mut waiting = [Box::pin(many.place()), Box::pin(many.place()), Box::pin(one.place())];
        for place in &mut waiting {
            assert!(poll!(place).is_pending());
        }
        drop(held);
        let [second, third, other] = &mut waiting;
        assert!(poll!(&mut *second).is_pending() && poll!(&mut *third).is_pending());
        let others = other.await.expect("it is next");
        assert!(poll!(&mut *second).is_pending(), "there is one worker");
        drop(others);
        drop(second.await.expect("then the first of those that wait"));
        drop(third.await.expect("and the last"));
    }

    #[tokio::test]
    async fn images_count_as_waiting_until_they_have_a_worker_or_nobody_waits_for_them() {
        use futures::poll;
        let desk = ImageDesk::new(1, DecodeLimits::default(), Preprocess::Default, 16);
        let other = desk.of(Caller::numbered(1));
        let held = desk.place().await.expect("a free worker");
        assert_eq!(desk.waiting(), 0);
        let (mut first, mut second) = (Box::pin(desk.place()), Box::pin(other.place()));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        assert_eq!((desk.waiting(), other.waiting()), (2, 2));
        drop(second);
        assert_eq!(desk.waiting(), 1);
        drop(held);
        let worker = first.await.expect("its turn");
        assert_eq!(desk.waiting(), 0, "it is worked on");
        drop(worker);
    }

    #[tokio::test]
    async fn of_callers_for_whom_nothing_is_done_nothing_is_kept() {
        let desk = ImageDesk::new(1, DecodeLimits::default(), Preprocess::Default, 16);
        let working = desk.of(Caller::numbered(0)).place().await.expect("a free worker");
        for number in 1..100 {
            drop(desk.of(Caller::numbered(number)));
        }
        let known = || desk.callers.known.lock().expect("not poisoned").len();
        assert_eq!(known(), 3, "whose desk it is, who works, and who came last");
        assert_eq!(desk.of(Caller::numbered(0)).own.available_permits(), 0);
        drop(working);
        drop(desk.of(Caller::numbered(100)));
        assert_eq!(known(), 2);
    }

    #[tokio::test]
    async fn a_picture_of_one_grey_level_is_refused_whichever_it_is_and_however_images_are_read() {
        for preprocess in [Preprocess::Default, Preprocess::Compat] {
            for level in [0, 128, 255] {
                for format in [ImageFormat::Png, ImageFormat::Jpeg] {
                    let pixels = Pixels::new(40, 30, vec![level; 40 * 30 * 3]).expect("the size fits");
                    let file = radiograph::write(&pixels, format, &[]).expect("written");
                    assert_one_level(refusal(file, preprocess).await);
                }
            }
            let rgb = (0..40 * 30 * 3).map(|i| (i / 40) as u8).collect();
            let ramp = Pixels::new(40, 30, rgb).expect("the size fits");
            let file = radiograph::write(&ramp, ImageFormat::Png, &[]).expect("written");
            assert!(refusal(file, preprocess).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_picture_that_is_wholly_transparent_is_refused_unless_opacity_is_ignored() {
        let clear = image::GrayAlphaImage::from_fn(40, 30, |x, y| image::LumaA([(3 * x + y) as u8, 0]));
        let mut file = std::io::Cursor::new(Vec::new());
        clear.write_to(&mut file, image::ImageFormat::Png).expect("written");
        let file = file.into_inner();
        assert_one_level(refusal(file.clone(), Preprocess::Default).await);
        assert!(refusal(file, Preprocess::Compat).await.is_none());
    }
}
