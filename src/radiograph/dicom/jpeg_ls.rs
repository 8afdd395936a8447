//! Frames in JPEG-LS (T.87; PS3.5, A.4.3), which the library of the other codings reads with a decoder in C++ only.

use super::read::DicomError;

/// The marker at the end of a frame.
const END: [u8; 2] = [0xff, 0xd9];

/// The samples of a frame of one channel and of `size`: width and height.
pub(super) fn decode(mut frame: Vec<u8>, size: (u32, u32)) -> Result<Vec<u16>, DicomError> {
    end_plainly(&mut frame);
    let (samples, ..) = jpegls::decode(&frame, size.0, size.1).map_err(|_| DicomError::Pixels)?;
    Ok(samples)
}

/// Ends a frame as its decoder wants it. The marker of the end may have any number of 0xff before it (T.81, B.1.1.2), and encoders fill up frames of an
/// odd length so. They are no samples: in those a byte follows each 0xff that makes no marker with it.
fn end_plainly(frame: &mut Vec<u8>) {
    if let Some(end) = frame.windows(2).rposition(|two| two == END) {
        let filled = frame[..end].iter().rev().take_while(|byte| **byte == 0xff).count();
        frame.truncate(end - filled);
        frame.extend(END);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_a_frame_up_before_and_behind_its_end_is_taken_away() {
        for (frame, right) in [
            (&[1, 0xff, 0xd9][..], &[1, 0xff, 0xd9][..]),
            (&[1, 0xff, 0xff, 0xff, 0xd9, 0], &[1, 0xff, 0xd9]),
            (&[1, 0xff, 0x7f, 0xff, 0xd9], &[1, 0xff, 0x7f, 0xff, 0xd9]),
            (&[0xff, 0xff, 0xd9], &[0xff, 0xd9]),
            (&[1, 2], &[1, 2]),
            (&[], &[]),
        ] {
            let mut ended = frame.to_vec();
            end_plainly(&mut ended);
            assert_eq!(ended, right);
        }
    }
}
