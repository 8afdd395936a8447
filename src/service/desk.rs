//! Where pixels are decoded and encoded: on blocking threads, a bounded number at a time.
//!
//! A decoded image can be a thousand times its file, so what bounds memory is how many are open at once. Files that
//! wait for a worker are bounded by whoever read them (the body budget of the HTTP room).

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::ServiceError;
use crate::radiograph::{self, DecodeLimits, ImageFormat, Pixels, Preprocess};

/// Reads and writes radiographs. Cheap to clone; clones share the workers.
#[derive(Clone, Debug)]
pub struct ImageDesk {
    workers: Arc<Semaphore>,
    limits: DecodeLimits,
    preprocess: Preprocess,
    side: usize,
}

impl ImageDesk {
    /// A desk with `workers` places that makes `side × side` images for the model.
    pub fn new(workers: usize, limits: DecodeLimits, preprocess: Preprocess, side: usize) -> Self {
        Self {
            workers: Arc::new(Semaphore::new(workers.max(1))),
            limits,
            preprocess,
            side,
        }
    }

    /// Reads a PNG or JPEG file into the model's pixels.
    pub async fn read(&self, file: Bytes) -> Result<Arc<Pixels>, ServiceError> {
        let desk = self.clone();
        let read = move || radiograph::prepare(&file, &desk.limits, desk.preprocess, desk.side);
        Ok(Arc::new(self.work(read).await??))
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

    /// Runs `work` on a blocking thread once there is a place. The place is held until the work ends, even if its caller leaves.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
        let place = Arc::clone(&self.workers)
            .acquire_owned()
            .await
            .map_err(|_| ServiceError::Worker)?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|_| ServiceError::Worker)
    }
}
