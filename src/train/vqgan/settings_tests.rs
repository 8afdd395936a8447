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
        // What is left at its default may not have been said.
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
            (32, vec![1, 1, 2], 16, 8)
        );
        let said = VqganSettings {
            resolution: 96,
            ch_mult: vec![1, 2],
            codes: 16,
            ..unsaid
        };
        let error = said.shape().unwrap_err().to_string();
        for part in [
            "--resolution is 96, there it is 32",
            "--ch-mult is [1, 2], there it is [1, 1, 2]",
        ] {
            assert!(error.contains(part) && !error.contains("--codes"), "{error}");
        }
    }
}
