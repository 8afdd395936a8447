//! What flags and recipes say, and what is made of it.

use super::*;

#[test]
fn feature_networks_are_written_as_none_one_or_a_list() {
    for perceptual in ["null", "\"a\"", "[\"a\",\"b\"]"] {
        let text = format!("{{\"perceptual\":{perceptual}}}");
        let settings: VqganSettings = serde_json::from_str(&text).unwrap();
        assert_eq!(settings.perceptual.len(), perceptual.matches(['a', 'b']).count());
        let written = serde_json::to_value(&settings).unwrap();
        assert_eq!(written["perceptual"].to_string(), perceptual);
    }
}

#[test]
fn weights_to_begin_with_are_quantised_from_the_first_step_unless_it_is_said_otherwise() {
    let fresh = VqganSettings::default();
    let init = VqganSettings {
        init: Some("published".into()),
        ..VqganSettings::default()
    };
    let shape = fresh.shape().unwrap();
    let from = |s: &VqganSettings| (s.quantises_from(), s.filled(&shape).quantise_from);
    assert_eq!(from(&fresh), (500, Some(500)));
    assert_eq!(from(&init), (0, Some(0)));
    let findings = VqganSettings {
        findings_first: 30,
        ..init.clone()
    };
    assert_eq!(from(&findings), (530, Some(500)));
    let said = VqganSettings {
        quantise_from: Some(7),
        ..init.clone()
    };
    assert_eq!(from(&said), (7, Some(7)));
    // Written down as earlier versions did, so that their runs go on.
    let decoder = VqganSettings {
        decoder_only: true,
        ..init
    };
    assert_eq!(from(&decoder), (0, Some(500)));
}

#[test]
fn a_shape_that_contradicts_the_file_it_is_taken_from_is_refused_and_the_real_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let there = tests::settings(dir.path(), 1);
    let yaml = dir.path().join("config.yaml");
    std::fs::write(&yaml, there.shape().unwrap().to_yaml()).unwrap();
    for (init, config) in [(Some(dir.path().to_owned()), None), (None, Some(yaml))] {
        // What is not said follows.
        let unsaid = VqganSettings {
            init,
            config,
            ..VqganSettings::default()
        };
        let shape = unsaid.shape().unwrap();
        assert_eq!(shape, there.shape().unwrap());
        let kept = unsaid.filled(&shape);
        assert_eq!(
            (kept.resolution, kept.ch_mult, kept.codes, kept.embed_dim),
            (Some(32), Some(vec![1, 1, 2]), Some(16), Some(8))
        );
        let said = VqganSettings {
            resolution: Some(96),
            ch_mult: Some(vec![1, 2]),
            codes: Some(16),
            ..unsaid.clone()
        };
        let error = said.shape().unwrap_err().to_string();
        for part in [
            "--resolution is 96, there it is 32",
            "--ch-mult is [1, 2], there it is [1, 1, 2]",
        ] {
            assert!(error.contains(part) && !error.contains("--codes"), "{error}");
        }
        // What is said is said, also where it is what would stand there otherwise.
        let usual = VqganSettings {
            resolution: Some(128),
            attention: Some(vec![16]),
            ..unsaid
        };
        let error = usual.shape().unwrap_err().to_string();
        for part in [
            "--resolution is 128, there it is 32",
            "--attention is [16], there it is []",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[test]
fn a_shape_that_nobody_says_is_kept_as_what_it_is() {
    let unsaid = VqganSettings::default();
    let said = unsaid.filled(&unsaid.shape().unwrap());
    let (kept, filled) = (
        serde_json::to_value(&unsaid).unwrap(),
        serde_json::to_value(&said).unwrap(),
    );
    for name in [
        "resolution",
        "channels",
        "ch",
        "ch_mult",
        "res_blocks",
        "attention",
        "codes",
        "embed_dim",
    ] {
        assert!(
            !kept[name].is_null() && kept[name] == filled[name],
            "{name}: {}",
            kept[name]
        );
    }
    let read: VqganSettings = serde_json::from_value(filled).unwrap();
    assert_eq!(read, said);
}

#[test]
fn a_shape_that_no_vqgan_has_is_told_by_its_flags() {
    let fresh = VqganSettings::default;
    for (settings, says) in [
        (
            VqganSettings {
                resolution: Some(33),
                ..fresh()
            },
            "--resolution: 33 cannot be halved",
        ),
        (
            VqganSettings {
                ch: Some(33),
                ..fresh()
            },
            "--ch: is 33; GroupNorm needs a multiple",
        ),
        (
            VqganSettings {
                codes: Some(0),
                ..fresh()
            },
            "--codes: is 0",
        ),
    ] {
        let told = settings.shape().unwrap_err().to_string();
        assert!(told.contains(says) && !told.contains("yaml"), "{told}");
    }
}
