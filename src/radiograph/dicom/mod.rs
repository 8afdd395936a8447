//! DICOM, as X-ray machines write it: what of a file its parser gets (`elements`, as `writing` has them written), its first frame as a raster
//! (`read`; `header`, `syntax` and `frame` for the form of its pixels and how they are coded, `jpeg_12`, `jpeg_ls` and `plain` for codings with
//! a decoder of their own, `shown` and `grey` for its grey levels), what the file says against its being a frontal radiograph (`facts`), and,
//! for tests, files of every coding (`sample`). What knows of DICOM's tags and syntaxes belongs here; keeping its decoders away from the
//! server's process is the work of `service::dicom`.

mod elements;
#[cfg(test)]
mod elements_tests;
pub(super) mod facts;
mod frame;
mod grey;
mod header;
mod jpeg_12;
mod jpeg_ls;
mod plain;
pub(super) mod read;
#[cfg(test)]
mod read_tests;
#[cfg(test)]
pub(crate) mod sample;
mod shown;
pub(super) mod syntax;
#[cfg(test)]
mod syntax_tests;
mod writing;
