//! Whether a file says of itself that it is synthetic, as the files of drawings and phantoms do.
//!
//! Only what a file says is known: a copy of the pixels, or a file whose texts were stripped, says nothing.

use super::{ImageFormat, read_jpeg};

/// So many chunks or segments are looked at, and nothing behind the first coded pixels: writers put their texts before them.
const LOOKED_AT: usize = 256;

/// The keyword of the mark, in whatever case.
const KEYWORD: &[u8] = b"synthetic";

/// Whether a PNG or JPEG file says that it is synthetic: a text under the keyword `Synthetic`, a comment `Synthetic: …`. One that says
/// `false` in plain letters does not (into a compressed text nobody looks), and neither does a file that is damaged before its mark.
pub fn says_synthetic(file: &[u8]) -> bool {
    match ImageFormat::sniff(file) {
        Some(ImageFormat::Png) => texts(file).any(is_mark(0)),
        Some(ImageFormat::Jpeg) => comments(file).any(is_mark(b':')),
        None => false,
    }
}

/// Whether a text is the mark: the keyword, what ends it, and not `false`.
fn is_mark(end: u8) -> impl Fn(&[u8]) -> bool {
    move |text| {
        let Some((keyword, value)) = text.split_at_checked(KEYWORD.len()) else {
            return false;
        };
        let denied = value.trim_ascii_end().last_chunk::<5>();
        keyword.eq_ignore_ascii_case(KEYWORD)
            && value.first() == Some(&end)
            && denied.is_none_or(|said| !said.eq_ignore_ascii_case(b"false"))
    }
}

/// The bodies of a PNG's texts, keyword first. Of a compressed one the keyword is plain, too.
fn texts(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = file.get(8..).unwrap_or_default();
    let chunks = std::iter::from_fn(move || {
        let (&length, behind) = rest.split_first_chunk::<4>()?;
        let (kind, behind) = behind.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let (body, behind) = behind.split_at_checked(length)?;
        // The checksum, which whoever decodes the file looks at.
        rest = behind.get(4..)?;
        Some((kind, body))
    });
    chunks
        .take(LOOKED_AT)
        .take_while(|(kind, _)| !matches!(*kind, b"IDAT" | b"IEND"))
        .filter(|(kind, _)| matches!(*kind, b"tEXt" | b"iTXt" | b"zTXt"))
        .map(|(_, body)| body)
}

/// A JPEG's comments.
fn comments(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    const SCAN: u8 = 0xda;
    const COMMENT: u8 = 0xfe;
    read_jpeg::segments(file)
        .take(LOOKED_AT)
        .take_while(|(marker, _)| *marker != SCAN)
        .filter(|(marker, _)| *marker == COMMENT)
        .filter_map(|(_, body)| {
            let length = u16::from_be_bytes(*body.first_chunk::<2>()?);
            body.get(2..usize::from(length))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radiograph::{Pixels, write};

    const FORMATS: [ImageFormat; 2] = [ImageFormat::Png, ImageFormat::Jpeg];

    /// A small file with one note.
    fn noted(format: ImageFormat, note: (&str, &str)) -> Vec<u8> {
        let pixels = Pixels::new(8, 8, (0..192).collect()).unwrap();
        write(&pixels, format, &[("Title", "A title"), note]).unwrap()
    }

    /// A PNG's signature and these chunks, without checksums that hold.
    fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, body) in chunks {
            file.extend((body.len() as u32).to_be_bytes());
            file.extend([kind.as_slice(), *body, &[0; 4]].concat());
        }
        file
    }

    #[test]
    fn a_file_that_this_program_marks_says_that_it_is_synthetic() {
        for format in FORMATS {
            for note in [
                ("Synthetic", "true"),
                ("synthetic", "phantom radiograph, not of a person"),
                ("Synthetic", "ja – 是"),
            ] {
                assert!(says_synthetic(&noted(format, note)), "{format}, {note:?}");
            }
        }
    }

    #[test]
    fn the_example_that_comes_with_the_demo_says_so() {
        let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        assert!(says_synthetic(&std::fs::read(demo.join("example.png")).unwrap()));
    }

    #[test]
    fn another_keyword_one_that_only_begins_so_and_a_denial_say_nothing() {
        for format in FORMATS {
            for note in [
                ("Comment", "Synthetic: true"),
                ("Synthetics", "true"),
                ("Synthetic", "False"),
            ] {
                assert!(!says_synthetic(&noted(format, note)), "{format}, {note:?}");
            }
        }
        assert!(!says_synthetic(b"Synthetic: true"));
        assert!(!says_synthetic(b""));
    }

    #[test]
    fn every_kind_of_text_counts_before_the_pixels_and_none_behind_them() {
        let all: [(&[u8; 4], &[u8]); 3] = [
            (b"tEXt", b"Synthetic\0true"),
            (b"iTXt", b"Synthetic\0\0\0\0\0true"),
            (b"zTXt", b"Synthetic\0\0\x78\x9c\x2b\x29\x2a\x4d\x05\0\x04\x6f\x01\xc1"),
        ];
        for (kind, body) in all {
            assert!(says_synthetic(&png(&[(b"IHDR", &[0; 13]), (kind, body)])));
            assert!(!says_synthetic(&png(&[(b"IDAT", b""), (kind, body)])));
            assert!(!says_synthetic(&png(&[(b"eXIf", body)])));
        }
    }

    #[test]
    fn a_file_that_is_cut_or_lies_about_its_lengths_says_nothing_before_its_mark_is_whole() {
        for format in FORMATS {
            let file = noted(format, ("Synthetic", "true"));
            let mark = file.windows(9).position(|bytes| bytes == b"Synthetic").unwrap();
            for end in 0..mark + 9 {
                assert!(!says_synthetic(&file[..end]), "{format}, {end} bytes");
            }
            for place in 0..file.len() {
                for byte in [0, 0x7f, 0xff] {
                    let mut file = file.clone();
                    file[place] = byte;
                    // It ends, whatever it says.
                    says_synthetic(&file);
                }
            }
        }
        let far = [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xff\xff\xfftEXtSynthetic\0true"].concat();
        assert!(!says_synthetic(&far));
        assert!(!says_synthetic(b"\xff\xd8\xff\xfe\0\0Synthetic: true"));
        assert!(!says_synthetic(b"\xff\xd8\xff\xfe\xff\xffSynthetic: true"));
    }

    #[test]
    fn no_more_than_a_few_chunks_are_looked_at() {
        let other: (&[u8; 4], &[u8]) = (b"eXIf", b"");
        let mut chunks = vec![other; LOOKED_AT];
        chunks.push((b"tEXt", b"Synthetic\0true"));
        assert!(!says_synthetic(&png(&chunks)));
        assert!(says_synthetic(&png(&chunks[1..])));
    }
}
