//! A request's fields and image, whichever way they came: JSON, multipart, or an image with options in the query string.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use futures::executor::block_on;

use super::body::{BodyLimits, no_memory};
use super::budget::Share;
use super::fields::Fields;
use crate::engine::Caller;
use crate::http::access::track::RequestContext;
use crate::http::error::{ApiError, ErrorCode};
use crate::service::{ServiceError, blocking};

/// Most parts of a multipart body.
const MAX_PARTS: usize = 64;

/// What has more bytes than this is taken apart on a blocking thread: 32 MiB take tens of milliseconds, and others must not wait for them.
const LARGE: usize = 64 << 10;

/// Bytes of an image's beginning that tell it from text: a PNG and a JPEG have others in the first eight, a DICOM file behind its first 132.
const BEGINNING: usize = 1 << 10;

/// What a request brought.
#[derive(Debug)]
pub struct Input {
    /// Its fields, the image aside.
    pub fields: Fields,
    /// Its image file, if it came as bytes.
    file: Option<Bytes>,
    /// Its share of the body budget, kept until the image is decoded.
    share: Share,
}

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Multipart,
    Image,
}

impl Input {
    /// Reads a request that may bring an image.
    pub async fn with_image(limits: &BodyLimits, request: Request) -> Result<Self, ApiError> {
        Self::read(limits, request, &[Kind::Json, Kind::Multipart, Kind::Image]).await
    }

    /// Reads a request that brings only fields.
    pub async fn fields_only(limits: &BodyLimits, request: Request) -> Result<Self, ApiError> {
        Self::read(limits, request, &[Kind::Json]).await
    }

    async fn read(limits: &BodyLimits, request: Request, kinds: &[Kind]) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let kind = kind_of(&head.headers, kinds);
        let query = head.uri.query().unwrap_or_default();
        let place = match kind {
            Ok(Kind::Json) => Some("the JSON object"),
            Ok(Kind::Multipart) => Some("the form"),
            Ok(Kind::Image) | Err(_) => None,
        };
        if let Some(place) = place {
            Fields::from_query(query)?.misplaced(place)?;
        }
        let context = head.extensions.get::<RequestContext>();
        let caller = context.map_or(Caller::ONLY, RequestContext::caller);
        let (bytes, mut share) = limits.collect(caller, &head.headers, body).await?.into_parts();
        let (fields, file, share) = match kind? {
            // The share goes along: what is still taken apart when its client has left has its memory within the budget.
            Kind::Json => {
                apart(bytes.len(), move || {
                    let fields = Fields::from_json(&bytes, |more| share.grow_by(more).map_err(no_memory))?;
                    Ok((fields, None, share))
                })
                .await?
            }
            Kind::Image => (Fields::from_query(query)?, Some(bytes), share),
            Kind::Multipart => {
                let length = bytes.len();
                let mut request = Request::new(Body::from(bytes));
                *request.headers_mut() = head.headers;
                // The body has been bounded already.
                DefaultBodyLimit::apply(DefaultBodyLimit::disable(), &mut request);
                // All of it is here, so that nothing is waited for.
                apart(length, move || {
                    let (fields, file) = block_on(multipart(request))?;
                    Ok((fields, file, share))
                })
                .await?
            }
        };
        Ok(Self { fields, file, share })
    }

    /// The image, if one came.
    pub async fn image(&mut self) -> Result<Option<Bytes>, ApiError> {
        let text = self.fields.text("image")?;
        match (self.file.take(), text) {
            (Some(_), Some(_)) => Err(ApiError::about(
                ErrorCode::ConflictingFields,
                "image",
                "`image` came twice; send it once.",
            )),
            (Some(file), None) => Ok(Some(file)),
            (None, Some(text)) => image_from_text(text, "image").await.map(Some),
            (None, None) => Ok(None),
        }
    }

    /// All fields have been asked for: refuses what is left, and then what is missing. Gives the share of the body budget, to be kept until the image is
    /// decoded.
    pub fn finish(self) -> Result<Share, ApiError> {
        self.fields.finish()?;
        Ok(self.share)
    }

    /// The image, which must be there. Where it is not, no bytes stand for it, and [`Input::finish`] refuses the request.
    pub async fn required_image(&mut self) -> Result<Bytes, ApiError> {
        let image = self.image().await?;
        if image.is_none() {
            self.fields.lack("image");
        }
        Ok(image.unwrap_or_default())
    }
}

fn kind_of(headers: &HeaderMap, kinds: &[Kind]) -> Result<Kind, ApiError> {
    // Nothing is unpacked: a small body could grow without end.
    let packed = |coding: &HeaderValue| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(packed) {
        let message = "Compressed bodies are not read; send the body without `Content-Encoding`.";
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
    }
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = match media_type.as_str() {
        "application/json" => Some(Kind::Json),
        "multipart/form-data" => Some(Kind::Multipart),
        // What an image is shows in its bytes, so that a file without a type of its own will do.
        "image/png" | "image/jpeg" | "image/jpg" | "application/dicom" | "application/octet-stream" => {
            Some(Kind::Image)
        }
        _ => None,
    };
    kind.filter(|kind| kinds.contains(kind)).ok_or_else(|| {
        let names = kinds.iter().map(|kind| match kind {
            Kind::Json => "application/json",
            Kind::Multipart => "multipart/form-data",
            Kind::Image => "image/png, image/jpeg, application/dicom or application/octet-stream",
        });
        let names = names.collect::<Vec<_>>().join(", ");
        let message = match headers.contains_key(CONTENT_TYPE) {
            true => format!("Send the body with the content type {names}."),
            false => format!("The request has no `Content-Type`; send the body with {names}."),
        };
        ApiError::new(ErrorCode::UnsupportedMediaType, message)
    })
}

/// The error for a form that is none.
fn broken(what: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::InvalidMultipart, what)
}

async fn multipart(request: Request) -> Result<(Fields, Option<Bytes>), ApiError> {
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|_| broken("The content type names no multipart boundary; let your HTTP client set it."))?;
    let (mut pairs, mut files, mut image) = (Vec::new(), Vec::new(), None);
    let cut = "The multipart body breaks its format or ends too early; send it again.";
    while let Some(part) = parts.next_field().await.map_err(|_| broken(cut))? {
        let name = part
            .name()
            .ok_or_else(|| broken("A part of the multipart body has no name."))?
            .to_owned();
        let is_file = part.file_name().is_some();
        let bytes = part.bytes().await.map_err(|_| broken(cut))?;
        if pairs.len() >= MAX_PARTS {
            return Err(broken(format!("The multipart body has more than {MAX_PARTS} parts.")));
        }
        match name.as_str() {
            "image" if image.is_some() => {
                return Err(ApiError::about(
                    ErrorCode::ConflictingFields,
                    "image",
                    "`image` came twice; send it once.",
                ));
            }
            "image" if is_url(&bytes) => return Err(remote("image")),
            "image" if is_encoded(&bytes) || !is_file && names_a_file(&bytes) => {
                return Err(text_for_image(is_file, &bytes));
            }
            "image" => image = Some(bytes),
            // Whether there is such a field, and whether it must be text, is known where fields are taken.
            _ => {
                let text = std::str::from_utf8(&bytes).ok().map(str::to_owned);
                if is_file || text.is_none() {
                    files.push(name.clone());
                }
                pairs.push((name, text));
            }
        }
    }
    Ok((Fields::from_form(pairs, files), image))
}

/// Whether this is an image in base64 or as a data: URL rather than an image itself, which has bytes in its beginning that these have not.
fn is_encoded(bytes: &[u8]) -> bool {
    let beginning = bytes.get(..BEGINNING).unwrap_or(bytes);
    let of_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/-_=".contains(byte);
    let is_data_url = beginning
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"));
    match is_data_url {
        true => beginning.iter().all(of_text),
        false => !beginning.is_empty() && beginning.iter().all(of_base64),
    }
}

/// Whether this is the name of a file rather than a file: one line that ends in a short extension.
fn names_a_file(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes.get(..BEGINNING).unwrap_or(bytes)).unwrap_or_default();
    let extension = text.trim().rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_extension = (2..=5).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
    is_extension && bytes.len() <= BEGINNING && !text.trim().contains(char::is_control)
}

/// The error for a form's `image` that is text: what to send depends on whether it came as a file.
fn text_for_image(is_file: bool, bytes: &[u8]) -> ApiError {
    let message = if is_file {
        "`image` is a file of text, as base64 is, and neither PNG, JPEG nor DICOM; send the image's own file."
    } else if names_a_file(bytes) {
        "`image` is the name of a file and not the file; send the file: in curl write `image=@FILE`, with the `@`."
    } else {
        "`image` is text, as base64 or a data: URL is, and a form takes the file itself; send the file (in curl write `image=@FILE`), \
         or that text in JSON."
    };
    ApiError::about(ErrorCode::UnknownImageFormat, "image", message)
}

/// Whether this is a URL rather than an image: letters and `://`.
fn is_url(bytes: &[u8]) -> bool {
    let scheme = bytes
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
        .count();
    scheme > 0 && bytes.get(scheme..).is_some_and(|rest| rest.starts_with(b"://"))
}

fn remote(param: &'static str) -> ApiError {
    let message =
        format!("`{param}` is a URL, and nothing is ever fetched; send the image itself in base64 or as a data: URL.");
    ApiError::about(ErrorCode::RemoteUrlRefused, param, message)
}

/// Takes apart what has so many bytes: here, or where others do not wait for it.
async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if bytes <= LARGE {
        return work();
    }
    let done = blocking(work).await;
    done.unwrap_or_else(|_| Err(ServiceError::Worker.into()))
}

/// An image from base64 or a data: URL. `param` is the field it came in.
pub async fn image_from_text(text: String, param: &'static str) -> Result<Bytes, ApiError> {
    apart(text.len(), move || decoded(&text, param)).await
}

fn decoded(text: &str, param: &'static str) -> Result<Bytes, ApiError> {
    let text = text.trim();
    if is_url(text.as_bytes()) {
        return Err(remote(param));
    }
    let is_data_url = text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let encoded = if is_data_url {
        let (kind, data) = text.get(5..).and_then(|rest| rest.split_once(',')).unwrap_or_default();
        let kind = kind.to_ascii_lowercase();
        if !kind.ends_with(";base64") {
            let message = format!("`{param}` must be a data: URL in base64, as in data:image/png;base64,….");
            return Err(ApiError::about(ErrorCode::InvalidBase64, param, message));
        }
        data
    } else {
        text
    };
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, lenient);
    // Encoders that wrap lines are common; everything else that is not base64 is an error.
    let wrapped = encoded.bytes().any(|b| b.is_ascii_whitespace());
    let bytes = if wrapped {
        engine.decode(
            encoded
                .bytes()
                .filter(|b| !b.is_ascii_whitespace())
                .collect::<Vec<u8>>(),
        )
    } else {
        engine.decode(encoded)
    };
    match bytes {
        Ok(bytes) if bytes.is_empty() => Err(ApiError::about(
            ErrorCode::EmptyImage,
            param,
            format!("`{param}` is empty; send a PNG, JPEG or DICOM file."),
        )),
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(_) => {
            let message = match is_url_safe(encoded) {
                true => format!(
                    "`{param}` is in URL-safe base64; send it in standard base64, with `+` and `/`, not `-` and `_`."
                ),
                false => format!("`{param}` is not valid base64; send the whole file in standard base64."),
            };
            Err(ApiError::about(ErrorCode::InvalidBase64, param, message))
        }
    }
}

/// Whether nothing but the alphabet for URLs (RFC 4648, 5) keeps this from being standard base64.
fn is_url_safe(encoded: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"-_=".contains(&byte);
    encoded.bytes().all(known) && encoded.bytes().any(|byte| b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ErrorCode {
        decoded(text, "image").expect_err("refused").code
    }

    #[test]
    fn images_come_as_base64_or_as_data_urls() {
        for text in [
            "aGk=",
            "aGk",
            " aG\nk= ",
            "data:image/png;base64,aGk=",
            "DATA:image/jpeg;base64,aGk=",
            "data:application/dicom;base64,aGk=",
        ] {
            assert_eq!(decoded(text, "image").expect(text), Bytes::from_static(b"hi"));
        }
    }

    #[tokio::test]
    async fn what_is_large_is_taken_apart_on_another_thread() {
        let here = std::thread::current().id();
        let place = || Ok(std::thread::current().id());
        assert_eq!(apart(LARGE, place).await.expect("done"), here);
        assert_ne!(apart(LARGE + 1, place).await.expect("done"), here);
    }

    #[test]
    fn text_in_place_of_a_file_is_told_from_an_image() {
        let preamble = |text: &[u8]| [text, &vec![b' '; 128 - text.len()][..], &b"DICM\x02\x00"[..]].concat();
        for (bytes, encoded) in [
            (&b"iVBORw0KGgo="[..], true),
            (&b"/9j/4AAQ\r\nSkZJRg==\n"[..], true),
            (&b"data:image/png;base64,iVBORw0KGgo="[..], true),
            (&b"DATA:,hello"[..], true),
            (&b""[..], false),
            (&b"\x89PNG\r\n\x1a\n"[..], false),
            (&b"\xff\xd8\xff"[..], false),
            (&b"the patient's name"[..], false),
            // What stands before a DICOM file's data is anybody's.
            (&preamble(b"")[..], false),
            (&preamble(b"data:image/png;base64,aGk=")[..], false),
        ] {
            assert_eq!(is_encoded(bytes), encoded, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_name_of_a_file_is_told_from_a_file_and_from_base64() {
        for (bytes, name) in [
            (&b"chest.png"[..], true),
            (&b"/data/a b/Chest.JPEG\n"[..], true),
            ("Röntgen.dcm".as_bytes(), true),
            (&b""[..], false),
            (&b"chest"[..], false),
            (&b"a sentence. And another one"[..], false),
            (&b"iVBORw0KGgo="[..], false),
            (&b"\x89PNG\r\n\x1a\n.png"[..], false),
            (&b"a\0b.png"[..], false),
            (&[&[b'a'; BEGINNING][..], &b".png"[..]].concat()[..], false),
        ] {
            assert_eq!(names_a_file(bytes), name, "{}", bytes.escape_ascii());
        }
        let said = |is_file, bytes: &[u8]| text_for_image(is_file, bytes).message.into_owned();
        assert!(said(false, b"chest.png").contains("with the `@`"));
        assert!(said(false, b"aGk=").contains("that text in JSON"));
        assert!(said(true, b"aGk=").contains("neither PNG, JPEG nor DICOM"));
    }

    #[test]
    fn nothing_is_fetched() {
        for url in [
            "http://localhost/x.png",
            "HTTPS://example.org",
            "file:///etc/passwd",
            "gopher://x",
        ] {
            assert_eq!(code(url), ErrorCode::RemoteUrlRefused);
        }
    }

    #[test]
    fn broken_texts_are_told_apart() {
        assert_eq!(code("a b c!"), ErrorCode::InvalidBase64);
        assert_eq!(code("data:image/png,raw"), ErrorCode::InvalidBase64);
        assert_eq!(code("data:image/png;base64,"), ErrorCode::EmptyImage);
        let message = |text: &str| decoded(text, "image").expect_err("refused").message.into_owned();
        for (text, url_safe) in [
            ("_9j_4A-Q", true),
            ("data:image/jpeg;base64,_9j_\n4AAQ", true),
            ("_9j/4A.Q", false),
            ("%%%", false),
            ("aGk=aGk", false),
        ] {
            assert_eq!(message(text).contains("not `-` and `_`"), url_safe, "{text}");
        }
    }
}
