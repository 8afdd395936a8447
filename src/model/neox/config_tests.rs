//! What a `config.json` means, and how one is written.

use super::*;

fn json(extra: &str) -> String {
    format!(
        r#"{{"model_type":"gpt_neox","vocab_size":100,"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,
            "intermediate_size":256{extra}}}"#
    )
}

#[test]
fn old_and_new_spellings_of_the_rotary_keys_mean_the_same() {
    let old = NeoxConfig::from_json(json(r#","rotary_pct":0.5,"rotary_emb_base":5000"#).as_bytes()).unwrap();
    let new = NeoxConfig::from_json(json(r#","partial_rotary_factor":0.5,"rope_theta":5000"#).as_bytes()).unwrap();
    let nested = json(r#","rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5,"rope_theta":5000}"#);
    assert_eq!(old, new);
    assert_eq!(old, NeoxConfig::from_json(nested.as_bytes()).unwrap());
    assert_eq!(old.rotary_ndims, 8);
}

#[test]
fn a_model_of_another_family_or_with_scaled_rotary_is_refused_with_its_key() {
    let other = json("").replace("gpt_neox", "llama");
    assert!(
        NeoxConfig::from_json(other.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("model_type")
    );
    // GPT-2 has other names for its sizes.
    let other = NeoxConfig::from_json(br#"{"model_type":"gpt2","n_embd":768,"n_layer":12,"vocab_size":50257}"#);
    let other = other.unwrap_err();
    assert_eq!(
        other.without_file(),
        "model_type: is `gpt2`; only `gpt_neox` models can be used"
    );
    assert_eq!(other.to_string(), format!("config.json: {}", other.without_file()));
    let unsaid = NeoxConfig::from_json(br#"{"n_embd":768}"#).unwrap_err().to_string();
    assert!(unsaid.contains("missing field"), "{unsaid}");
    let scaled = json(r#","rope_scaling":{"type":"linear","factor":2.0}"#);
    assert!(
        NeoxConfig::from_json(scaled.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("linear")
    );
    let odd = json(r#","rotary_pct":0.03"#);
    assert!(
        NeoxConfig::from_json(odd.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("rotary_pct")
    );
}

#[test]
fn numbers_that_no_model_has_are_refused_with_their_key() {
    for (key, from, to) in [
        ("num_hidden_layers", "2", "4097"),
        ("num_hidden_layers", "2", "0"),
        ("vocab_size", "100", "16777217"),
    ] {
        let wrong = json("").replace(&format!("\"{key}\":{from}"), &format!("\"{key}\":{to}"));
        let error = NeoxConfig::from_json(wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(to), "{error}");
    }
}

#[test]
fn what_is_written_is_read_as_the_same_configuration() {
    let mut configs = Vec::new();
    for act in ["gelu", "gelu_fast", "relu"] {
        let all = format!(
            r#","hidden_act":"{act}","use_parallel_residual":false,"layer_norm_eps":1e-6,"tie_word_embeddings":true,"attention_bias":false,
                "rotary_emb_base":12345.6,"max_position_embeddings":99"#
        );
        configs.extend([json(""), json(&all)].map(|json| NeoxConfig::from_json(json.as_bytes()).unwrap()));
    }
    // Among these are heads of which no fraction in f64 gives the dimensions exactly.
    for head in [4, 7, 49, 80, 98, 103, 128] {
        let mut config = configs[0].clone();
        config.hidden_size = head * config.num_attention_heads;
        for rotary_ndims in (1..=head).filter(|n| n.next_multiple_of(2) <= head) {
            config.rotary_ndims = rotary_ndims;
            configs.push(config.clone());
        }
    }
    for config in configs {
        let json = config.to_json("bfloat16");
        assert_eq!(NeoxConfig::from_json(json.as_bytes()).unwrap(), config);
    }
}

#[test]
fn sizes_alone_are_those_of_a_file_with_nothing_else() {
    let sizes = NeoxSizes {
        vocab_size: 100,
        hidden_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 256,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
    };
    let read = NeoxConfig::from_json(json("").as_bytes()).unwrap();
    assert_eq!(sizes.config().unwrap(), read);
    let odd = NeoxSizes {
        num_attention_heads: 0,
        ..sizes
    };
    assert!(odd.config().unwrap_err().to_string().contains("num_attention_heads"));
    let endless = NeoxSizes {
        max_position_embeddings: (1 << 20) + 1,
        ..sizes
    };
    assert!(
        endless
            .config()
            .unwrap_err()
            .to_string()
            .contains("max_position_embeddings")
    );
}

#[test]
fn expected_tensors_count_the_published_model() {
    let config = NeoxConfig::from_json(
        br#"{"vocab_size":51305,"hidden_size":2560,"num_hidden_layers":32,"num_attention_heads":32,"intermediate_size":10240}"#,
    )
    .unwrap();
    assert_eq!(config.expected_tensors().len(), 1 + 32 * 12 + 2 + 1);
    assert_eq!(config.parameters(), 2_780_334_080);
}
