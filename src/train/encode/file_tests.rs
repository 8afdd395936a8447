//! The file of codes, whole, cut off, damaged and of other makers.

use super::*;

const ORIGIN: CodeOrigin = CodeOrigin {
    vqgan: [7; 32],
    files: [5; 32],
    codes_per_image: 4,
    code_count: 64,
};

const SEEN: Seen = Seen {
    stamp: Stamp {
        size: 3,
        modified: 1,
        changed: 2,
    },
    content: Content([9; 16]),
};

fn written(path: &Path) -> Vec<u8> {
    let (mut writer, cache) = CodeWriter::open(path, &ORIGIN).unwrap();
    assert!(cache.is_none());
    writer.append("a", &SEEN, &[1, 2, 3, 4]).unwrap();
    writer.append("b", &SEEN, &[63, 0, 0, 9]).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn codes_are_read_back_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    written(&path);
    let cache = CodeCache::open(&path, &ORIGIN).unwrap();
    assert_eq!(
        (cache.len(), cache.get("b"), cache.get("c")),
        (2, Some(&[63, 0, 0, 9][..]), None)
    );
    assert_eq!((cache.seen("a"), cache.seen("c")), (Some(&SEEN), None));
}

#[test]
fn of_two_records_of_an_image_the_later_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    written(&path);
    let newer = Seen {
        content: Content([8; 16]),
        ..SEEN
    };
    for codes in [[5, 6, 7, 8], [9, 9, 9, 9]] {
        let (mut writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
        assert_eq!(cache.map(|cache| cache.len()), Some(2));
        writer.append("a", &newer, &codes).unwrap();
        writer.finish().unwrap();
    }
    let cache = CodeCache::open(&path, &ORIGIN).unwrap();
    assert_eq!((cache.len(), cache.records), (2, 4));
    assert_eq!(
        (cache.get("a"), cache.get("b")),
        (Some(&[9; 4][..]), Some(&[63, 0, 0, 9][..]))
    );
    assert_eq!((cache.seen("a"), cache.seen("b")), (Some(&newer), Some(&SEEN)));
}

#[test]
fn a_file_cut_at_any_byte_goes_on_after_its_last_whole_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    let whole = written(&path);
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (mut writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
        if cache.as_ref().and_then(|c| c.get("a")).is_none() {
            writer.append("a", &SEEN, &[1, 2, 3, 4]).unwrap();
        }
        writer.append("b", &SEEN, &[63, 0, 0, 9]).unwrap();
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {length}");
    }
}

#[test]
fn codes_of_another_vqgan_or_an_earlier_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    let whole = written(&path);
    let other = CodeOrigin {
        vqgan: [8; 32],
        files: [9; 32],
        ..ORIGIN
    };
    assert!(matches!(
        CodeCache::open(&path, &other),
        Err(EncodeError::OtherVqgan(_))
    ));
    std::fs::write(&path, [b"LLMCXRC1", &whole[8..]].concat()).unwrap();
    let earlier = CodeCache::open(&path, &ORIGIN).unwrap_err();
    assert!(earlier.to_string().contains("remove the file and encode again"));
    std::fs::write(&path, "nothing of the kind, though it is long enough to be one").unwrap();
    assert!(matches!(CodeCache::open(&path, &ORIGIN), Err(EncodeError::NotCodes(_))));
    // However short: it may be somebody's.
    std::fs::write(&path, "my notes").unwrap();
    assert!(matches!(
        CodeWriter::open(&path, &ORIGIN),
        Err(EncodeError::NotCodes(_))
    ));
    assert_eq!(std::fs::read(&path).unwrap(), b"my notes");
}

#[test]
fn a_file_from_before_is_taken_with_the_vqgan_that_made_it_and_once_gone_on_with_by_its_codes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    let whole = written(&path);
    let former = [ORIGIN.former_header(), whole[HEADER..].to_vec()].concat();
    let other_decoder = CodeOrigin {
        files: [6; 32],
        ..ORIGIN
    };
    std::fs::write(&path, &former).unwrap();
    assert_eq!(CodeCache::open(&path, &ORIGIN).unwrap().len(), 2);
    let refused = CodeCache::open(&path, &other_decoder).unwrap_err();
    assert!(matches!(refused, EncodeError::OtherVqgan(_)), "{refused}");
    // To read it leaves it as it is.
    assert_eq!(std::fs::read(&path).unwrap(), former);
    let (writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
    assert_eq!(cache.unwrap().len(), 2);
    writer.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    assert_eq!(CodeCache::open(&path, &other_decoder).unwrap().len(), 2);
    // One that was cut within its beginning is begun again.
    std::fs::write(&path, &former[..HEADER - 9]).unwrap();
    assert!(CodeWriter::open(&path, &ORIGIN).unwrap().1.is_none());
}

#[test]
fn a_damaged_record_costs_its_image_alone_and_is_gone_once_the_file_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    let (whole, record) = (written(&path), ORIGIN.record());
    // In the key, the stamp, the content, the codes and the checksum.
    for place in [0, 17, 42, BEFORE + 1, record - 1] {
        for number in [0, 1] {
            let mut damaged = whole.clone();
            damaged[HEADER + number * record + place] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let cache = CodeCache::open(&path, &ORIGIN).unwrap();
            assert_eq!((cache.damaged(), cache.len()), (1, 1), "{place}");
            let (mut writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
            let (id, codes) = [("a", [1, 2, 3, 4]), ("b", [63, 0, 0, 9])][number];
            assert_eq!(cache.unwrap().get(id), None);
            writer.append(id, &SEEN, &codes).unwrap();
            writer.finish().unwrap();
            let cache = CodeCache::open(&path, &ORIGIN).unwrap();
            assert_eq!((cache.damaged(), cache.len()), (0, 2), "{place}");
            assert_eq!(
                (cache.get("a"), cache.get("b")),
                (Some(&[1, 2, 3, 4][..]), Some(&[63, 0, 0, 9][..]))
            );
        }
    }
}

#[test]
fn a_tail_of_zeros_is_cut_off_and_a_newer_record_stays_the_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    let (mut whole, record) = (written(&path), ORIGIN.record());
    let (mut writer, _) = CodeWriter::open(&path, &ORIGIN).unwrap();
    writer.append("a", &SEEN, &[5, 6, 7, 8]).unwrap();
    writer.finish().unwrap();
    let newer = std::fs::read(&path).unwrap();
    // Two damaged ones in a row before it, then zeros, as after a loss of power.
    whole.extend_from_slice(&newer[whole.len()..]);
    whole[HEADER] ^= 1;
    whole[HEADER + record] ^= 1;
    whole.resize(whole.len() + 2 * record + 5, 0);
    std::fs::write(&path, &whole).unwrap();
    let (writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
    assert_eq!(cache.unwrap().damaged(), 4);
    writer.finish().unwrap();
    let cache = CodeCache::open(&path, &ORIGIN).unwrap();
    assert_eq!((cache.damaged(), cache.records, cache.len()), (0, 3, 1));
    assert_eq!(cache.get("a"), Some(&[5, 6, 7, 8][..]));
}

#[test]
fn two_writers_are_not_at_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("codes");
    let held = CodeWriter::open(&path, &ORIGIN).unwrap();
    let refused = CodeWriter::open(&path, &ORIGIN).err().unwrap();
    assert!(matches!(refused, EncodeError::Busy(_)), "{refused}");
    drop(held);
    CodeWriter::open(&path, &ORIGIN).unwrap();
}
