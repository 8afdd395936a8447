//! Why the service did not answer.

use crate::engine::EngineError;
use crate::radiograph::{DicomError, RadiographError};

/// Why the service did not answer. No text of it holds what a user sent.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// An option is out of its range.
    #[error("{message}")]
    Parameter {
        /// The option's name, as the API spells it.
        param: &'static str,
        /// What would be right.
        message: String,
    },
    /// A text is longer than any context could hold.
    #[error("a text in `{param}` is {bytes} bytes long, and at most {limit} are taken; send a shorter one")]
    TextTooLong {
        /// The field's name, as the API spells it.
        param: &'static str,
        /// Its length in bytes of UTF-8.
        bytes: usize,
        /// What is taken.
        limit: usize,
    },
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] RadiographError),
    /// The DICOM file cannot be read.
    #[error(transparent)]
    Dicom(#[from] DicomError),
    /// This server does not read DICOM files.
    #[error("this server is set not to read DICOM files; export the image as PNG or JPEG and send that")]
    DicomOff,
    /// The engine refused the work or failed at it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A text leaves no room in the context for the image that is to be drawn from it.
    #[error(
        "the text and the model's instruction take {prompt} of the context's {context} tokens, and an image takes {image}; send a shorter text"
    )]
    NoRoomToDraw {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of an image.
        image: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// A text leaves no room in the context for any reply.
    #[error(
        "`{param}` takes {text} tokens, and beside what stands around it the context has room for {room}; send a shorter text"
    )]
    NoRoomToReply {
        /// The field's name, as the API spells it.
        param: &'static str,
        /// Its tokens.
        text: usize,
        /// Tokens that it may take, one being left for the reply.
        room: usize,
    },
    /// Without constraint the model may end without a whole image.
    #[error(
        "the model ended its reply without a whole image; try another seed, or leave out `constraint` so that an image always comes"
    )]
    NoImage,
    /// The thread that worked on the request's image or text broke; the request can be sent again.
    #[error("a worker thread failed on this request")]
    Worker,
}

impl ServiceError {
    pub(super) fn parameter(param: &'static str, message: impl Into<String>) -> Self {
        Self::Parameter {
            param,
            message: message.into(),
        }
    }
}
