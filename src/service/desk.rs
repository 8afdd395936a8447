//! Where pixels are decoded and encoded: on blocking threads, a bounded number at a time.
//!
//! A decoded image can be a thousand times its file, so what bounds memory is how many are open at once. Files that
//! wait for a worker are bounded by whoever read them (the body budget of the HTTP room).

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ServiceError;
use super::dicom::DicomReader;
use crate::radiograph::{self, DecodeLimits, ImageFormat, Pixels, Preprocess};

/// Reads and writes radiographs. Cheap to clone; clones share the workers.
#[derive(Clone, Debug)]
pub struct ImageDesk {
    workers: Arc<Semaphore>,
    limits: DecodeLimits,
    preprocess: Preprocess,
    side: usize,
    dicom: Option<DicomReader>,
}

impl ImageDesk {
    /// A desk with `workers` places that makes `side × side` images for the model.
    pub fn new(workers: usize, limits: DecodeLimits, preprocess: Preprocess, side: usize) -> Self {
        Self {
            workers: Arc::new(Semaphore::new(workers.max(1))),
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

    /// Reads a PNG, JPEG or DICOM file into the model's pixels.
    pub async fn read(&self, file: Bytes) -> Result<Arc<Pixels>, ServiceError> {
        if radiograph::is_dicom(&file) {
            return self.read_dicom(file).await;
        }
        let desk = self.clone();
        let read = move || radiograph::prepare(&file, &desk.limits, desk.preprocess, desk.side);
        Ok(Arc::new(self.work(read).await??))
    }

    async fn read_dicom(&self, file: Bytes) -> Result<Arc<Pixels>, ServiceError> {
        let reader = self.dicom.as_ref().ok_or(ServiceError::DicomOff)?;
        let place = self.place().await?;
        let raster = reader.read(&file, &self.limits).await?;
        let side = self.side;
        let fit = move || {
            let _place = place;
            radiograph::for_model(&raster, side)
        };
        let pixels = tokio::task::spawn_blocking(fit)
            .await
            .map_err(|_| ServiceError::Worker)?;
        Ok(Arc::new(pixels))
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

    async fn place(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let workers = Arc::clone(&self.workers);
        workers.acquire_owned().await.map_err(|_| ServiceError::Worker)
    }

    /// Runs `work` on a blocking thread once there is a place. The place is held until the work ends, even if its caller leaves.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
        let place = self.place().await?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|_| ServiceError::Worker)
    }
}
