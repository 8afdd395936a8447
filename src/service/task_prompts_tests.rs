//! What each task asks of the engine.

use bytes::Bytes;

use super::plan::Plan;
use super::task_prompts::{Form, Planner};
use super::{Constraint, Limits, Material, ModelCard, Options, ServiceError, Task};
use crate::engine::scripted;
use crate::engine::{EngineError, Facts, Rule, TokenRules};
use crate::radiograph::ImageFormat;
use crate::vocabulary::Vocabulary;

const CODES_PER_IMAGE: usize = 16;
const PNG: Form = Form::Drawing(ImageFormat::Png);

fn card() -> ModelCard {
    ModelCard {
        name: "drafts".into(),
        revision: "1".into(),
        manifest_sha256: "5a".repeat(32),
        trained: true,
        caution: None,
        licence: "unknown".into(),
        intended_use: "tests".into(),
        report_instruction: "Write the report.".into(),
        draw_instruction: "Draw the image.".into(),
        report_max_tokens: 100,
        vqa_max_tokens: 50,
        instruct_max_tokens: 200,
        temperature: 0.75,
        top_p: 0.5,
        guidance: 2.0,
        readings: 3,
        image_side: 16,
    }
}

fn plan_within(context: usize, kv_tokens: usize, task: Task, options: &Options) -> Result<Plan, ServiceError> {
    let tokenizer = include_bytes!("../../tests/fixtures/vocabulary/tokenizer.json");
    let vocabulary = Vocabulary::from_bytes(tokenizer, 32, CODES_PER_IMAGE).expect("the fixture is a tokenizer");
    let facts = Facts {
        context,
        kv_tokens,
        ..scripted::facts(&TokenRules::of(&vocabulary), 16)
    };
    let planner = Planner {
        vocabulary: &vocabulary,
        card: &card(),
        limits: &Limits::default(),
        facts: &facts,
        options,
    };
    planner.plan(planner.prompts(task)?)
}

fn plan(task: Task, options: &Options) -> Plan {
    plan_within(512, 4096, task, options).unwrap_or_else(|error| panic!("{error}"))
}

fn file() -> Bytes {
    Bytes::from_static(b"a file")
}

fn report() -> Task {
    Task::Report {
        image: file(),
        instruction: None,
    }
}

fn vqa() -> Task {
    Task::Vqa {
        image: file(),
        questions: vec!["Is it?".into(), "Is it not?".into()],
    }
}

fn draw() -> Task {
    Task::Draw {
        text: "No effusion.".into(),
        n: 2,
        format: ImageFormat::Png,
    }
}

fn instruct() -> Task {
    Task::Instruct {
        instruction: "Explain.".into(),
        material: Material::Text("This.".into()),
        format: ImageFormat::Jpeg,
    }
}

fn chat(material: Material) -> Task {
    Task::Chat {
        instruction: "Explain.".into(),
        material,
        n: 2,
    }
}

#[test]
fn a_task_decides_what_its_replies_are_and_how_many() {
    let rows = [
        (report(), Form::Text, Rule::Text, 3, 100, 0.0, true),
        (vqa(), Form::Answer, Rule::Text, 2, 50, 0.0, true),
        (draw(), PNG, Rule::Image, 2, CODES_PER_IMAGE + 3, 0.75, false),
        (
            instruct(),
            Form::Open(ImageFormat::Jpeg),
            Rule::Free,
            1,
            200,
            0.75,
            false,
        ),
        (chat(Material::None), Form::Text, Rule::Text, 2, 200, 0.75, false),
        (chat(Material::Image(file())), Form::Text, Rule::Text, 2, 200, 0.0, true),
    ];
    for (task, form, rule, replies, max_tokens, temperature, about_image) in rows {
        let name = task.name();
        let plan = plan(task, &Options::default());
        assert_eq!((plan.form, plan.image.is_some()), (form, about_image), "{name}");
        assert_eq!(plan.sequences.len(), replies, "{name}");
        for (index, reply) in plan.sequences.iter().enumerate() {
            assert_eq!(
                (reply.rule, reply.max_new_tokens, reply.sampling.temperature),
                (rule, max_tokens, temperature),
                "{name}"
            );
            assert_eq!(reply.sampling.seed, plan.sampling.seed + index as u64, "{name}");
            assert_eq!(reply.draw, form.drawn_as().is_some(), "{name}");
            assert_eq!(reply.watch.len(), if form == Form::Answer { 2 } else { 0 }, "{name}");
            assert_eq!(reply.guide.is_some(), form == PNG, "{name}");
        }
    }
}

#[test]
fn without_constraint_anything_may_come_and_no_drawing_is_guided() {
    let free = Options {
        constraint: Constraint::None,
        ..Options::default()
    };
    for task in [report(), vqa(), draw()] {
        let name = task.name();
        for reply in plan(task, &free).sequences {
            assert_eq!((reply.rule, reply.guide), (Rule::Free, None), "{name}");
        }
    }
}

#[test]
fn a_report_is_read_as_often_as_the_bundle_says_only_where_nothing_of_it_was_chosen() {
    let readings = |options: Options| plan(report(), &options).readings;
    assert_eq!(readings(Options::default()), 3);
    for (temperature, constraint) in [(Some(0.5), Constraint::Auto), (None, Constraint::None)] {
        let options = Options {
            temperature,
            constraint,
            ..Options::default()
        };
        assert_eq!(readings(options.clone()), 1);
        let asked = Options {
            readings: Some(2),
            ..options
        };
        assert_eq!(readings(asked), 2);
    }
}

#[test]
fn an_instruction_of_nothing_is_none() {
    let instructed = |own: &str| Task::Report {
        image: file(),
        instruction: Some(own.into()),
    };
    let usual = plan(report(), &Options::default());
    for blank in ["", " \n\t "] {
        let plan = plan(instructed(blank), &Options::default());
        assert_eq!(plan.readings, usual.readings, "{blank:?}");
        assert_eq!(plan.sequences[0].prompt, usual.sequences[0].prompt, "{blank:?}");
    }
    let own = plan(instructed("Name the devices."), &Options::default());
    assert_eq!(own.readings, 1);
    assert_ne!(own.sequences[0].prompt, usual.sequences[0].prompt);
}

#[test]
fn a_drawing_of_nothing_is_refused_by_name() {
    for blank in ["", " \n\t "] {
        let task = Task::Draw {
            text: blank.into(),
            n: 1,
            format: ImageFormat::Png,
        };
        let refused = plan_within(512, 4096, task, &Options::default()).err();
        assert!(
            matches!(refused, Some(ServiceError::Parameter { param: "text", .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_default_length_is_shortened_to_fit_and_one_that_was_asked_for_is_refused() {
    let long = Options {
        max_tokens: Some(90),
        ..Options::default()
    };
    let plan = plan_within(64, 4096, instruct(), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let prompt = plan.sequences[0].prompt.len(CODES_PER_IMAGE);
    assert_eq!(plan.sequences[0].max_new_tokens, 64 - prompt);
    let refused = plan_within(64, 4096, instruct(), &long).err();
    assert!(
        matches!(
            refused,
            Some(ServiceError::Engine(EngineError::ContextExceeded { reply: 90, .. }))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_text_that_leaves_no_room_for_a_reply_is_told_what_room_there_is() {
    let instruct = |words: usize| Task::Instruct {
        instruction: vec!["a"; words].join(" "),
        material: Material::None,
        format: ImageFormat::Png,
    };
    let refused = plan_within(64, 4096, instruct(200), &Options::default()).err();
    let Some(ServiceError::NoRoomToReply { param, text, room }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(param, "instruction");
    assert!(room > 0 && room < text, "{text} in {room}");
    // Each word is a token: what is told to fit fits, and one more does not.
    let fits = |words| plan_within(64, 4096, instruct(words), &Options::default()).is_ok();
    assert!(fits(200 - (text - room)) && !fits(200 - (text - room) + 1));
}

#[test]
fn a_drawing_takes_what_an_image_takes_however_much_more_is_granted() {
    let generous = Options {
        max_tokens: Some(1000),
        ..Options::default()
    };
    let plan = plan_within(64, 4096, draw(), &generous).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.sequences[0].max_new_tokens, CODES_PER_IMAGE + 3);
}

#[test]
fn a_drawing_whose_guide_would_never_fit_the_memory_is_drawn_without_unless_guidance_was_asked_for() {
    let pair = |kv_tokens, options: &Options| {
        let plan = plan_within(512, kv_tokens, draw(), options).unwrap_or_else(|error| panic!("{error}"));
        (plan.sampling.guidance, plan.sequences[0].guide.is_some())
    };
    let asked = Options {
        guidance: Some(4.0),
        ..Options::default()
    };
    assert_eq!(pair(4096, &Options::default()), (2.0, true));
    assert_eq!(pair(64, &Options::default()), (1.0, false));
    assert_eq!(pair(64, &asked), (4.0, true));
}
