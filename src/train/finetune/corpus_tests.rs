use tch::Device;

use super::examples::{Examples, Skill};
use super::settings::Pairing;
use super::test_world::TestWorld;
use super::{FinetuneSettings, train};
use crate::train::data::Split;
use crate::train::language_model::Response;
use crate::vocabulary::Input;

/// Ids of the training images that are reported on.
fn reported(examples: &Examples) -> Vec<String> {
    let pools = examples.pools.iter().filter(|pool| pool.skill == Skill::Report);
    let images = pools.flat_map(|pool| {
        let set = &examples.corpus.sets[pool.set];
        pool.items.iter().map(|&item| set.id(&set.images[item as usize]))
    });
    images.map(str::to_owned).collect()
}

#[test]
fn an_image_whose_file_has_another_size_than_the_one_that_was_encoded_is_left_out_and_counted() {
    let world = TestWorld::new();
    let file = world.path("1.png");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&bytes[..], &[0]].concat()).unwrap();
    // A copy may be the same image; one that is not there may have been encoded elsewhere.
    let copy = std::fs::File::options().write(true).open(world.path("2.png")).unwrap();
    copy.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::remove_file(world.path("3.png")).unwrap();
    let settings = FinetuneSettings {
        pairing: Pairing::Both,
        ..world.settings("run")
    };
    let examples = world.examples(&settings, 256);
    assert_eq!(reported(&examples), ["0.png", "2.png", "3.png"]);
    let account = &examples.corpus.account;
    assert_eq!(
        account.skipped("image file is another one than was encoded; `encode` it again"),
        1
    );
    assert!(account.to_string().contains("\n1 images of"), "{account}");
}

#[test]
fn texts_of_one_patient_are_all_kept_for_validation_or_none_is() {
    let world = TestWorld::new();
    let row = |n: usize| format!(",p{},Count to {n}.,{n}\n", n / 3);
    let rows: String = (0..300).map(row).collect();
    let images = "0.png,p49,,\n1.png,a,,\n2.png,b,,\n";
    let file = world.path("both.csv");
    std::fs::write(&file, format!("image,patient,instruction,response\n{images}{rows}")).unwrap();
    let settings = FinetuneSettings {
        data: vec![file.to_string_lossy().into_owned()],
        report_weight: 0.0,
        draw_weight: 0.0,
        vqa_weight: 0.0,
        ..world.settings("run")
    };
    let examples = world.examples(&settings, 256);
    let kept = examples.corpus.texts[0].texts.iter();
    let kept = kept.filter(|(_, split, _)| *split == Split::Validate);
    // The 50th patient is one of whom an image is learned from.
    assert_eq!(
        kept.map(|(_, _, text)| text.response.as_str()).collect::<Vec<_>>(),
        ["150", "151", "152"]
    );
}

#[test]
fn texts_for_training_and_testing_alone_are_held_out_of_those_for_training() {
    let world = TestWorld::new();
    let line = |n: usize| {
        let split = if n.is_multiple_of(2) { "train" } else { "test" };
        format!("{{\"instruction\":\"Count to {n}.\",\"response\":\"{n}\",\"split\":\"{split}\"}}\n")
    };
    std::fs::write(world.path("text.jsonl"), (0..200).map(line).collect::<String>()).unwrap();
    let examples = world.examples(&world.settings("run"), 256);
    let of = |split: Split| {
        let texts = examples.corpus.texts[0].texts.iter().filter(|text| text.1 == split);
        texts.map(|(_, _, text)| text.response.clone()).collect::<Vec<_>>()
    };
    // The 50th and the 100th of those for training.
    assert_eq!(of(Split::Validate), ["98", "198"]);
    assert_eq!((of(Split::Train).len(), of(Split::Test).len()), (98, 0));
}

#[test]
fn a_patient_in_two_splits_of_two_data_sets_ends_the_run_before_it_begins() {
    let world = TestWorld::new();
    for (name, split) in [("a.csv", "train"), ("b.csv", "validate")] {
        let image = &name[..1];
        std::fs::copy(world.path("0.png"), world.path(&format!("{image}.png"))).unwrap();
        let rows = format!("image,split,patient,report\n{image}.png,{split},p1,Clear.\n");
        std::fs::write(world.path(name), rows).unwrap();
    }
    let settings = FinetuneSettings {
        data: ["a.csv", "b.csv"]
            .map(|name| world.path(name).to_string_lossy().into_owned())
            .to_vec(),
        codes: vec![world.path("codes"), world.path("codes")],
        ..world.settings("run")
    };
    let error = train(&settings, Device::Cpu, || false).unwrap_err().to_string();
    assert!(error.contains("data sets in one folder"), "{error}");
}

#[test]
fn a_run_whose_images_have_neither_reports_nor_questions_is_refused_with_what_was_skipped() {
    let world = TestWorld::new();
    std::fs::write(world.path("data.csv"), "image,split\n0.png,train\n1.png,train\n").unwrap();
    let settings = world.settings("run");
    let error = train(&settings, Device::Cpu, || false).unwrap_err().to_string();
    assert!(
        error.contains("--data has no image to train on") && error.contains("skipped 2: image has no report"),
        "{error}"
    );
    // Whoever wants texts alone can say so.
    let texts = FinetuneSettings {
        report_weight: 0.0,
        draw_weight: 0.0,
        vqa_weight: 0.0,
        ..settings
    };
    let examples = world.examples(&texts, 256);
    assert!(examples.pools.iter().all(|pool| pool.skill == Skill::Text));
}

#[test]
fn stage_2_is_refused_where_the_table_of_views_is_not_there() {
    let world = TestWorld::new();
    let root = world.path("mimic");
    std::fs::create_dir_all(&root).unwrap();
    let split = "dicom_id,study_id,subject_id,split\na,50,10000032,train\n";
    std::fs::write(root.join("mimic-cxr-2.0.0-split.csv"), split).unwrap();
    let settings = FinetuneSettings {
        data: vec![root.to_string_lossy().into_owned()],
        stage: 2,
        ..world.settings("run")
    };
    let error = train(&settings, Device::Cpu, || false).unwrap_err().to_string();
    assert!(
        error.contains("mimic-cxr-2.0.0-metadata.csv (or .csv.gz)") && error.contains("put it there"),
        "{error}"
    );
}

#[test]
fn images_of_a_list_that_alternates_by_itself_are_used_each_way_in_equal_parts() {
    let world = TestWorld::new();
    let views: String = (0..4)
        .map(|n| {
            format!(
                "{n}.png,train,{},A report.\n",
                if n % 2 == 0 { "PA" } else { "LATERAL" }
            )
        })
        .collect();
    let of = |rows: &str| {
        std::fs::write(world.path("data.csv"), format!("image,split,view,report\n{rows}")).unwrap();
        let mut reported = reported(&world.examples(&world.settings("run"), 256));
        reported.sort();
        reported
    };
    let first = of(&views);
    assert_eq!(first, ["0.png", "1.png"]);
    // However the list is ordered.
    let backwards: Vec<&str> = views.lines().rev().collect();
    assert_eq!(of(&(backwards.join("\n") + "\n")), first);
}

#[test]
fn an_image_is_used_one_way_in_both_stages_and_whichever_others_have_no_report() {
    let world = TestWorld::new();
    let reported_of = |stage, rows: &str| {
        std::fs::write(world.path("data.csv"), format!("image,split,view,report\n{rows}")).unwrap();
        let settings = FinetuneSettings {
            stage,
            ..world.settings("run")
        };
        let mut reported = reported(&world.examples(&settings, 256));
        reported.sort();
        reported
    };
    // In turn by the checksums of their ids: 0, 2, 1, 3.
    let all = "0.png,train,LATERAL,A.\n1.png,train,PA,B.\n2.png,train,PA,C.\n3.png,train,PA,D.\n";
    assert_eq!(reported_of(1, all), ["0.png", "1.png"]);
    // Without the first one the second would be reported on, if it were counted anew.
    assert_eq!(reported_of(2, all), ["1.png"]);
    assert_eq!(reported_of(1, &all.replace("LATERAL,A.", "PA,")), ["1.png"]);
}

#[test]
fn plain_instructions_need_no_room_for_an_image() {
    let world = TestWorld::new();
    let settings = FinetuneSettings {
        report_weight: 0.0,
        draw_weight: 0.0,
        vqa_weight: 0.0,
        ..world.settings("run")
    };
    // Of one with a context, the longest, and of some without.
    let line = |n: usize| format!("{{\"instruction\": \"Count to {n}.\", \"response\": \"{n}\"}}\n");
    let text = "{\"instruction\": \"Count on.\", \"context\": \"1, 2, 3.\", \"response\": \"4.\"}\n".to_owned();
    std::fs::write(world.path("text.jsonl"), text + &(0..9).map(line).collect::<String>()).unwrap();
    let examples = world.examples(&settings, 256);
    let encoder = &examples.encoder;
    let longest = examples.corpus.texts[0].texts.iter().map(|(_, _, plain)| {
        let input = plain.context.as_deref().map_or(Input::None, Input::Text);
        let response = Response::Text(&plain.response);
        encoder.example(&plain.instruction, input, &[], response).ids.len()
    });
    let longest = longest.max().unwrap();
    assert_eq!(examples.corpus.account.count("plain instructions"), 10);
    // Room for the longest one, and not for an image beside it.
    let context = longest + encoder.vocabulary().codes_per_image() / 2;
    let examples = world.examples(&settings, context);
    let account = &examples.corpus.account;
    assert_eq!(account.count("plain instructions"), 10, "{account}");
    assert_eq!(
        account.skipped("plain instruction is too long for the model's context"),
        0
    );
}
