//! Radiographs: bytes of PNG or JPEG → pixels for the model, exactly as Pillow makes them, and pixels → PNG or JPEG.

mod pixels;

pub use pixels::Pixels;
