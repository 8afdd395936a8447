//! The machine on hand-written and on damaged pickles.

use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    Pickle::read(bytes).map(|(pickle, _)| pickle)
}

#[test]
fn a_call_is_kept_and_never_made() {
    // os.system("exit 1") in protocol 2.
    let pickle = read(b"\x80\x02cos\nsystem\nq\x00X\x06\x00\x00\x00exit 1\x85R.").unwrap();
    let (callable, args) = pickle.call(pickle.root()).unwrap();
    assert_eq!(callable, ("os", "system"));
    assert_eq!(pickle.str(args[0]), Some("exit 1"));
    assert_eq!(pickle.describe(pickle.root()), "an object of os.system");
}

#[test]
fn an_ordered_dict_has_its_items_however_they_were_given() {
    let new = read(b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00aK\x07u.").unwrap();
    let old = read(b"\x80\x02ccollections\nOrderedDict\n]]X\x01\x00\x00\x00aaK\x07aa\x85R.").unwrap();
    for pickle in [new, old] {
        let items = pickle.items(pickle.root()).unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!((pickle.str(items[0].0), pickle.count(items[0].1)), (Some("a"), Some(7)));
    }
}

#[test]
fn integers_of_every_width_are_read() {
    for (bytes, value) in [
        (&b"K\xff."[..], 255),
        (b"M\x00\x01.", 256),
        (b"J\xff\xff\xff\xff.", -1),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\x80.", -128),
        (b"\x8a\x02\xff\x00.", 255),
        (b"\x8b\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f.", i64::MAX),
        (b"I-12\n.", -12),
        (b"L99L\n.", 99),
    ] {
        let pickle = read(bytes).unwrap();
        assert!(
            matches!(pickle.node(pickle.root()), Node::Int(n) if *n == value),
            "{value}"
        );
    }
}

#[test]
fn a_reader_stops_at_the_end_of_the_first_pickle() {
    let (pickle, length) = Pickle::read(b"\x80\x02K\x01.\x80\x02K\x02.").unwrap();
    assert_eq!((pickle.count(pickle.root()), length), (Some(1), 5));
}

#[test]
fn damage_is_named_with_its_place() {
    assert_eq!(read(b"").unwrap_err(), PickleError::Truncated { at: 0 });
    assert_eq!(
        read(b"\x80\x02X\xff\xff\xff\xffab.").unwrap_err(),
        PickleError::Truncated { at: 7 }
    );
    assert_eq!(
        read(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.").unwrap_err(),
        PickleError::Truncated { at: 9 }
    );
    assert_eq!(read(b"\xfe").unwrap_err(), PickleError::Opcode { code: 0xFE, at: 0 });
    assert_eq!(read(b"h\x05.").unwrap_err(), PickleError::Memo { at: 0 });
    assert!(matches!(read(b"R.").unwrap_err(), PickleError::Stack { .. }));
    assert!(
        matches!(read(b"K\x01(R.").unwrap_err(), PickleError::Stack { .. }),
        "a mark is a fence"
    );
    assert!(
        matches!(read(b"}(K\x01u.").unwrap_err(), PickleError::Stack { .. }),
        "a key without a value"
    );
}

#[test]
fn nesting_and_sharing_without_end_cost_no_more_than_their_instructions() {
    // A list of two references to a list of two references to … : 2^200 elements if they were copied.
    let mut laughs = b"]q\x00".to_vec();
    for level in 0u8..200 {
        laughs.extend([b']', b'q', level + 1, b'(', b'h', level, b'h', level, b'e']);
    }
    laughs.push(b'.');
    assert_eq!(read(&laughs).unwrap().nodes.len(), 201);

    let mut deep = vec![b']'; 300_000];
    deep.extend(vec![b'a'; 299_999]);
    deep.push(b'.');
    assert!(read(&deep).is_ok());

    let itself = read(b"]q\x00h\x00a.").unwrap();
    assert_eq!(itself.sequence(itself.root()).unwrap()[0], itself.root());
}

#[test]
fn too_many_values_are_refused() {
    assert_eq!(read(&vec![b'N'; 5 << 20]).unwrap_err(), PickleError::TooLarge);
}

#[test]
fn too_many_references_to_few_values_are_refused_wherever_they_are_kept() {
    let many = 5 << 20;
    let after = |start: &[u8], code: u8| [start, vec![code; many].as_slice()].concat();
    let mut appended = b"]".to_vec();
    for _ in 0..many >> 10 {
        appended.extend(b"(N");
        appended.extend([b'2'; 1024]);
        appended.push(b'e');
    }
    for (pickle, place) in [
        (after(b"N", 0x94), "memo"),
        (after(b"N", b'2'), "stack"),
        (after(b"", b'('), "marks"),
        (appended, "a list"),
    ] {
        assert_eq!(read(&pickle).unwrap_err(), PickleError::TooLarge, "{place}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_sequence_of_instructions_makes_the_reader_panic(
        codes in proptest::collection::vec(proptest::sample::select(&b".(012)]}tldeaus\x85\x86\x87\x8f\x90\x91\x94NK\x01h\x00q\x00RbQo\x81\x92\x93cos\nx\n"[..]), 0..120)
    ) {
        if let Ok(pickle) = read(&codes) {
            let _ = (pickle.items(pickle.root()), pickle.describe(pickle.root()), pickle.call(pickle.root()));
        }
    }
}
