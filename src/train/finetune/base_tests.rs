//! What a run may begin from.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::base::Start;
use super::test_world::TestWorld;
use super::{FinetuneSettings, InitCodes};
use crate::model::bundle::{Bundle, CONFIG, TOKENIZER, WEIGHTS};
use crate::model::checkpoint::Dtype;
use crate::model::neox::EMBED_OUT;
use crate::model::source::TensorSource;
use crate::train::common::store::replace_tensors;
use crate::train::init::{InitOptions, init, tests::smallest};
use crate::train::vqgan::VqganFiles;

const EMBEDDING: &str = "gpt_neox.embed_in.weight";

/// Codes of the world's VQ-GAN, and the width of its language model.
const CODES: i64 = 16;
const WIDTH: i64 = 16;

fn open(settings: &FinetuneSettings, vqgan: &VqganFiles) -> Result<Start, String> {
    Start::open(settings, vqgan, Device::Cpu).map_err(|error| error.to_string())
}

fn refusal(settings: &FinetuneSettings, vqgan: &VqganFiles) -> String {
    open(settings, vqgan).err().expect("a refusal")
}

/// The embedding of the world's bundle, and how many of its rows are of text.
fn embedding(world: &TestWorld) -> (Tensor, i64) {
    let start = Bundle::open(&world.path("start")).unwrap();
    let weights = start.neox_weights().unwrap();
    let shape = [start.neox.vocab_size, start.neox.hidden_size];
    let rows = weights.tensor(EMBEDDING, &shape, Kind::Float, Device::Cpu).unwrap();
    (rows, start.vocabulary().unwrap().text_len() as i64)
}

/// That of a run at its start.
fn grown(start: &Start) -> Tensor {
    let named = start.model.named();
    let (_, tensor) = named.iter().find(|(name, _)| name == EMBEDDING).unwrap();
    tensor.copy()
}

/// The base's tokenizer, changed, as a file.
fn tokenizer(world: &TestWorld, name: &str, change: fn(&mut Value)) -> PathBuf {
    let mut file: Value = serde_json::from_slice(&std::fs::read(world.path("start/tokenizer.json")).unwrap()).unwrap();
    change(&mut file);
    let path = world.path(name);
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

/// The world's language model in a folder of its own, as a checkpoint of elsewhere: settings that begin from it, and the folder.
fn elsewhere(world: &TestWorld) -> (FinetuneSettings, PathBuf) {
    let folder = world.path("elsewhere");
    std::fs::create_dir_all(&folder).unwrap();
    for name in [CONFIG, TOKENIZER, WEIGHTS] {
        std::fs::copy(world.path("start").join(name), folder.join(name)).unwrap();
    }
    let settings = FinetuneSettings {
        base: Some(folder.clone()),
        ..world.settings("run")
    };
    (settings, folder)
}

fn edit_json(path: &Path, change: impl Fn(&mut Value)) {
    let mut json = std::fs::read(path).map_or(json!({}), |text| serde_json::from_slice(&text).unwrap());
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

fn edit_tensors(folder: &Path, change: impl Fn(&mut Vec<(String, Tensor)>)) {
    let path = folder.join(WEIGHTS);
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    change(&mut tensors);
    replace_tensors(&path, &tensors, Dtype::F32).unwrap();
}

/// A VQ-GAN of the world's shape, but for the number of its codes.
fn other_vqgan(folder: &Path, codes: usize) -> VqganFiles {
    let options = InitOptions {
        codes,
        seed: 7,
        ..smallest(folder.to_owned())
    };
    init(&options, &mut |_| {}).unwrap();
    VqganFiles::find(folder).unwrap()
}

#[test]
fn a_base_that_is_not_what_its_bundle_lists_is_refused() {
    let world = TestWorld::new();
    let (settings, vqgan) = (world.settings("run"), world.vqgan());
    let path = world.path("start/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&settings, &vqgan);
    assert!(error.contains("model.safetensors is damaged or was changed"), "{error}");
    // A folder that says nothing of its files is taken as it is.
    std::fs::remove_file(world.path("start/bundle.json")).unwrap();
    open(&settings, &vqgan).unwrap();
}

#[test]
fn a_tokenizer_that_gives_a_token_another_number_is_refused() {
    let world = TestWorld::new();
    let exchange = |file: &mut Value| {
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        for id in vocab.values_mut() {
            *id = match id.as_u64() {
                Some(100) => json!(101),
                Some(101) => json!(100),
                _ => continue,
            };
        }
    };
    let settings = FinetuneSettings {
        tokenizer: Some(tokenizer(&world, "other.json", exchange)),
        ..world.settings("run")
    };
    let error = refusal(&settings, &world.vqgan());
    assert!(error.contains("other.json is another tokenizer than"), "{error}");
    assert!(error.contains("token 100 is"), "{error}");
    let same = FinetuneSettings {
        tokenizer: Some(tokenizer(&world, "same.json", |_| {})),
        ..settings
    };
    let (rows, _) = embedding(&world);
    assert!(grown(&open(&same, &world.vqgan()).unwrap()).equal(&rows));
}

#[test]
fn tokens_that_are_added_get_rows_of_their_own_and_the_codes_keep_theirs() {
    let world = TestWorld::new();
    let add = |file: &mut Value| {
        let added = file["added_tokens"].as_array_mut().unwrap();
        let mut new = added.last().unwrap().clone();
        new["id"] = json!(new["id"].as_u64().unwrap() + 1);
        new["content"] = json!("### Ward:");
        added.push(new);
    };
    let settings = FinetuneSettings {
        tokenizer: Some(tokenizer(&world, "more.json", add)),
        init_codes: Some(InitCodes::Codebook),
        ..world.settings("run")
    };
    let start = open(&settings, &world.vqgan()).unwrap();
    let (rows, text) = embedding(&world);
    assert_eq!(start.vocabulary.text_len() as i64, text + 1);
    let grown = grown(&start);
    assert_eq!(grown.size(), [text + 1 + CODES, WIDTH]);
    assert!(grown.narrow(0, 0, text).equal(&rows.narrow(0, 0, text)));
    assert!(grown.narrow(0, text + 1, CODES).equal(&rows.narrow(0, text, CODES)));
}

#[test]
fn codes_of_another_vqgan_are_refused_whatever_their_number_and_replaced_where_that_is_said() {
    let world = TestWorld::new();
    let settings = world.settings("run");
    let (rows, text) = embedding(&world);
    for (codes, differs) in [(32, "the shape differs"), (16, "quantize.embedding.weight differs")] {
        let other = other_vqgan(&world.path(&format!("other-{codes}")), codes);
        let error = refusal(&settings, &other);
        assert!(error.contains(differs) && error.contains("--init-codes"), "{error}");
        let said = FinetuneSettings {
            init_codes: Some(InitCodes::Random),
            ..settings.clone()
        };
        let grown = grown(&open(&said, &other).unwrap());
        assert_eq!(grown.size(), [text + codes as i64, WIDTH]);
        assert!(grown.narrow(0, 0, text).equal(&rows.narrow(0, 0, text)));
        assert!(!grown.narrow(0, text, CODES).equal(&rows.narrow(0, text, CODES)));
    }
}

#[test]
fn a_shape_that_contradicts_the_base_is_refused_also_where_it_is_the_usual_one() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        hidden: Some(256),
        layers: Some(1),
        tied: true,
        ..world.settings("run")
    };
    let error = refusal(&settings, &world.vqgan());
    for part in ["--hidden is 256, there it is 16", "--tied is given", "--base"] {
        assert!(error.contains(part) && !error.contains("--layers"), "{error}");
    }
    let right = FinetuneSettings {
        hidden: Some(16),
        tied: false,
        ..settings
    };
    let start = open(&right, &world.vqgan()).unwrap();
    let kept = serde_json::to_value(right.filled(start.model.config())).unwrap();
    assert_eq!((&kept["hidden"], &kept["context"]), (&json!(16), &json!(256)));
    // Without a base, what nobody says is kept as what it is.
    let unsaid = serde_json::to_value(FinetuneSettings::default()).unwrap();
    assert_eq!(
        (&unsaid["hidden"], &unsaid["init_codes"]),
        (&json!(256), &json!("random"))
    );
}

#[test]
fn tokens_that_stand_only_beside_the_tokenizer_keep_their_rows_and_so_do_the_codes_behind_them() {
    let world = TestWorld::new();
    let (settings, folder) = elsewhere(&world);
    let mut ids = Vec::new();
    let path = folder.join(TOKENIZER);
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    for token in added.split_off(added.len() - 2) {
        ids.push((
            token["content"].as_str().unwrap().to_owned(),
            token["id"].as_u64().unwrap(),
        ));
    }
    std::fs::write(&path, file.to_string()).unwrap();
    edit_json(&folder.join("added_tokens.json"), |json| {
        json[ids[0].0.as_str()] = json!(ids[0].1)
    });
    edit_json(&folder.join("tokenizer_config.json"), |json| {
        json["added_tokens_decoder"][ids[1].1.to_string()] = json!({"content": ids[1].0, "special": true});
    });
    let (rows, text) = embedding(&world);
    let start = open(&settings, &world.vqgan()).unwrap();
    assert_eq!(start.vocabulary.text_len() as i64, text);
    assert!(grown(&start).equal(&rows));
    // A tokenizer of its own is held against the whole one.
    let same = FinetuneSettings {
        tokenizer: Some(world.path("start/tokenizer.json")),
        ..settings
    };
    assert!(grown(&open(&same, &world.vqgan()).unwrap()).equal(&rows));
}

#[test]
fn an_output_matrix_under_its_name_in_memory_is_that_of_the_base() {
    const IN_MEMORY: &str = "lm_head.weight";
    let world = TestWorld::new();
    let (settings, folder) = elsewhere(&world);
    let output = |start: &Start| {
        let named = start.model.named();
        let (_, tensor) = named.iter().find(|(name, _)| name == EMBED_OUT).unwrap();
        tensor.copy()
    };
    let before = output(&open(&settings, &world.vqgan()).unwrap());
    edit_tensors(&folder, |tensors| {
        let (name, _) = tensors.iter_mut().find(|(name, _)| name == EMBED_OUT).unwrap();
        *name = IN_MEMORY.to_owned();
    });
    assert!(output(&open(&settings, &world.vqgan()).unwrap()).equal(&before));
}

#[test]
fn a_base_with_tensors_that_its_configuration_has_no_place_for_is_refused() {
    let world = TestWorld::new();
    let (settings, folder) = elsewhere(&world);
    edit_json(&folder.join(CONFIG), |config| {
        config["tie_word_embeddings"] = json!(true)
    });
    let error = refusal(&settings, &world.vqgan());
    assert!(error.contains("set tie_word_embeddings to false"), "{error}");
    let (settings, folder) = elsewhere(&world);
    edit_tensors(&folder, |tensors| {
        let (_, norm) = tensors
            .iter()
            .find(|(name, _)| name.ends_with("final_layer_norm.bias"))
            .unwrap();
        let more = norm.copy();
        tensors.push(("gpt_neox.layers.7.input_layernorm.bias".to_owned(), more));
    });
    let error = refusal(&settings, &world.vqgan());
    assert!(
        error.contains("layers.7") && error.contains("has no place for it"),
        "{error}"
    );
}

#[test]
fn keys_of_a_recipe_may_be_the_flags_too() {
    let settings = json!({"report_instruction": ["What is seen?"], "draw_instruction": ["Draw."]});
    let settings: FinetuneSettings = serde_json::from_value(settings).unwrap();
    assert_eq!(settings.report_instructions, ["What is seen?"]);
    assert_eq!(settings.draw_instructions, ["Draw."]);
}

#[test]
fn a_base_of_another_family_and_a_page_in_place_of_its_configuration_are_told_with_the_file() {
    let world = TestWorld::new();
    let (settings, folder) = elsewhere(&world);
    let path = folder.join(CONFIG);
    edit_json(&path, |config| *config = json!({"model_type": "gpt2", "n_embd": 768}));
    let told = format!(
        "{}: model_type: is `gpt2`; only `gpt_neox` models can be used",
        path.display()
    );
    assert_eq!(refusal(&settings, &world.vqgan()), told);
    for file in [path, folder.join(TOKENIZER)] {
        std::fs::write(&file, "<!DOCTYPE html>").unwrap();
        let told = refusal(&settings, &world.vqgan());
        assert!(
            told.starts_with(&format!("{}: is a web page", file.display())),
            "{told}"
        );
    }
}
