//! The commands for single images and for bundles.

use std::process::{Command, Stdio};

use llm_cxr::labeler;
use llm_cxr::phantom::Label;
use serde_json::{Value, json};

use super::house::*;

#[test]
fn the_offline_commands_say_what_the_server_says() {
    let folder = temporary();
    let image = radiograph(folder.path());
    let server = Server::start(bundle(), &[]);
    let served = server.post(
        "/v1/report",
        &json!({"image": base64(&image), "max_tokens": 16, "include": ["token_ids", "codes"]}),
    );
    let model = ["--model", text(bundle()), "--device", "cpu"];

    let mut args = vec!["report", text(&image), "--json", "--max-tokens", "16"];
    args.extend(model);
    let offline: Value = serde_json::from_str(&succeed(SERVER, &args)).expect("JSON");
    for field in ["report", "token_ids", "codes", "finish_reason", "image_notes"] {
        assert_eq!(offline[field], served[field], "{field}");
    }

    let mut args = vec!["encode", text(&image)];
    args.extend(model);
    let encoded = succeed(SERVER, &args);
    assert_eq!(
        serde_json::from_str::<Value>(&encoded).expect("JSON")["codes"],
        served["codes"]
    );

    let (codes, drawn) = (folder.path().join("codes.json"), folder.path().join("drawn.png"));
    std::fs::write(&codes, encoded).expect("a file");
    let mut args = vec!["decode", text(&codes), "-o", text(&drawn)];
    args.extend(model);
    succeed(SERVER, &args);
    let drawn = std::fs::read(&drawn).expect("an image");
    assert!(
        drawn.windows(9).any(|w| w == b"Synthetic"),
        "the file says that it is synthetic"
    );

    let asked = server.post(
        "/v1/vqa",
        &json!({"image": base64(&image), "question": "Is it?", "max_tokens": 4, "include": ["probabilities"]}),
    );
    let mut args = vec!["ask", text(&image), "Is it?", "--json", "--max-tokens", "4"];
    args.extend(model);
    let answer: Value = serde_json::from_str(&succeed(SERVER, &args)).expect("JSON");
    assert_eq!(
        answer["answers"][0]["answer"], asked["answers"][0]["answer"],
        "{answer}"
    );
    assert_eq!(answer["answers"][0]["p_yes"], asked["answers"][0]["p_yes"], "{answer}");

    // What is unusual about an image is no part of the result.
    let noise = folder.path().join("noise.png");
    let colours = |x: u32, y: u32| image::Rgb([1u32, 2, 3].map(|channel| ((x + 9 * y) * channel * 37 % 251) as u8));
    image::RgbImage::from_fn(90, 120, colours).save(&noise).expect("a PNG");
    let mut args = vec!["ask", text(&noise), "Is it?", "--max-tokens", "4"];
    args.extend(model);
    let output = run(SERVER, &args);
    let [told, answer] = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(told.contains("in colour") && !answer.contains("in colour"), "{told}");

    let there = server.post(
        "/v1/generate-image",
        &json!({"text": "Left effusion.", "seed": 7, "include": ["codes"]}),
    );
    let file = folder.path().join("drawn-here.png");
    let mut args = vec!["draw", "Left effusion.", "--seed", "7", "--json", "-o", text(&file)];
    args.extend(model);
    let here: Value = serde_json::from_str(&succeed(SERVER, &args)).expect("JSON");
    assert_eq!(here["codes"], there["codes"][0], "{here}");
    assert_eq!(here["synthetic"], true);
}

#[test]
fn the_demo_reads_the_same_findings_with_every_instruction_set_of_this_machine() {
    let folder = temporary();
    let data = folder.path().join("phantoms");
    let args = [
        "phantom",
        "--out",
        text(&data),
        "--studies",
        "1",
        "--seed",
        "11",
        "--size",
        "256",
    ];
    succeed(TRAINER, &args);
    let patient = "files/p10/p10000000/s50000000";
    let image = std::fs::read_dir(data.join(patient))
        .expect("a study")
        .next()
        .expect("an image")
        .expect("a file")
        .path();
    let mut read = Vec::new();
    for kernels in [
        "portable",
        "avx2",
        "avx-vnni",
        "avx512",
        "avx512-vnni",
        "avx512-bf16",
        "auto",
    ] {
        for weights in ["native", "int8", "int4"] {
            let mut args = vec!["report", text(&image), "--model", "models/demo", "--device", "cpu"];
            args.extend(["--cpu-kernels", kernels, "--weights", weights]);
            let output = run(SERVER, &args);
            if output.status.success() {
                let report = String::from_utf8_lossy(&output.stdout).into_owned();
                // What is there for sure and what may be there are a matter of words.
                let there = labeler::read(&report)
                    .labels
                    .map(|label| matches!(label, Label::Positive | Label::Uncertain));
                read.push((kernels, weights, there));
            } else {
                let reason = String::from_utf8_lossy(&output.stderr);
                assert!(reason.contains("this processor has portable"), "{kernels}: {reason}");
            }
        }
    }
    assert!(read.len() >= 6, "portable kernels and the best run everywhere");
    let (_, _, first) = read[0];
    assert!(first.contains(&true), "the consolidation is seen");
    for (kernels, weights, there) in read {
        assert_eq!(there, first, "{kernels}, {weights}");
    }
}

#[test]
fn published_formats_are_converted_and_served() {
    let folder = temporary();
    let out = folder.path().join("converted");
    let llm = folder.path().join("llm");
    std::fs::create_dir(&llm).expect("a folder");
    for entry in std::fs::read_dir(fixture("checkpoint/llm")).expect("the fixture") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), llm.join(entry.file_name())).expect("a copy");
    }
    std::fs::copy(fixture("vocabulary/tokenizer.json"), llm.join("tokenizer.json")).expect("a copy");
    let (yaml, checkpoint) = (fixture("model/vqgan-colour.yaml"), fixture("checkpoint/vqgan.ckpt"));
    let parts = [
        "--llm",
        text(&llm),
        "--vqgan-config",
        text(&yaml),
        "--vqgan-checkpoint",
        text(&checkpoint),
    ];
    succeed(SERVER, &[&["convert", "--out", text(&out)], &parts[..]].concat());
    let shown = succeed(SERVER, &["inspect", "--model", "models/demo"]);
    let warned = |line: &str| {
        line.trim()
            .strip_prefix("warning")
            .is_some_and(|said| said.contains("small model"))
    };
    assert!(shown.lines().any(warned), "{shown}");
    let shown = succeed(SERVER, &["inspect", "--model", text(&out), "--verify"]);
    assert!(shown.contains("converted"), "{shown}");
    let server = Server::start(&out, &[]);
    let info: Value = serde_json::from_slice(&server.get("/v1/info").1).expect("JSON");
    assert_eq!(info["model"]["trained"], true, "{info}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_published_vqgan_alone_is_converted_to_what_a_training_takes() {
    let folder = temporary();
    let (out, codes) = (folder.path().join("vqgan"), folder.path().join("codes"));
    let (yaml, checkpoint) = (fixture("model/vqgan-colour.yaml"), fixture("checkpoint/vqgan.ckpt"));
    let parts = ["--vqgan-config", text(&yaml), "--vqgan-checkpoint", text(&checkpoint)];
    let made = succeed(SERVER, &[&["convert", "--out", text(&out)], &parts[..]].concat());
    assert!(made.contains("vqgan --init"), "{made}");
    radiograph(folder.path());
    let manifest = folder.path().join("m.csv");
    std::fs::write(&manifest, "image\nxray.png\n").expect("a manifest");
    let args = ["encode", "--device", "cpu", "--data", text(&manifest)];
    let args = [&args[..], &["--vqgan", text(&out), "--out", text(&codes)]].concat();
    assert!(succeed(TRAINER, &args).contains("1 images encoded"));
    let timed = [
        "bench",
        "--vqgan",
        text(&out),
        "--batch",
        "2",
        "--repeat",
        "1",
        "--json",
    ];
    let timed = succeed(SERVER, &[&timed[..], &["--dtype", "f32", "--device", "cpu"]].concat());
    let timed: Value = serde_json::from_str(&timed).expect("JSON");
    assert_eq!(timed["passes"][0]["images"], 2, "{timed}");
    assert_eq!(timed["codes_equal"], 1.0, "{timed}");
    // What is of the language model has no meaning without one.
    let refused = fail(
        SERVER,
        &[&["convert", "--out", text(&out), "--name", "x"], &parts[..]].concat(),
    );
    assert!(refused.contains("--llm"), "{refused}");
}

#[test]
fn a_quantised_bundle_is_made_and_says_what_its_original_says_in_these_bits() {
    let folder = temporary();
    let (image, small) = (radiograph(folder.path()), folder.path().join("small"));
    let made = [
        "quantise",
        "--model",
        "models/demo",
        "--weights",
        "int4",
        "--out",
        text(&small),
    ];
    assert!(succeed(SERVER, &made).contains("is a bundle"));
    let report = |model: &str, more: &[&str]| {
        let args = ["report", text(&image), "--device", "cpu", "--model", model];
        succeed(SERVER, &[&args[..], more].concat())
    };
    assert_eq!(report(text(&small), &[]), report("models/demo", &["--weights", "int4"]));
    let server = Server::start(&small, &[]);
    let info: Value = serde_json::from_slice(&server.get("/v1/info").1).expect("JSON");
    assert_eq!(info["model"]["weights"], "int4", "{info}");
    assert_eq!(server.terminate(), Some(0));
    let again = fail(
        SERVER,
        &[
            "quantise",
            "--model",
            text(&small),
            "--weights",
            "int8",
            "--out",
            "never",
        ],
    );
    assert!(again.contains("quantised already"), "{again}");
}

#[test]
fn a_command_whose_reader_has_gone_ends_without_a_word() {
    let mut child = Command::new(SERVER)
        .arg("openapi")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn data_is_made_to_the_end_where_nobody_reads_what_is_said_of_it() {
    let folder = temporary();
    let data = folder.path().join("phantoms");
    let mut child = Command::new(TRAINER)
        .args(["phantom", "--out", text(&data), "--studies", "1", "--size", "64"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop((child.stdout.take(), child.stderr.take()));
    let ended = end_of(&mut child, PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}");
    assert!(data.join("phantom.json").is_file());
}

#[test]
fn a_result_that_cannot_be_printed_is_an_error_and_no_panic() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux");
    let output = Command::new(SERVER)
        .args(["inspect", "--model", text(bundle())])
        .stdout(full)
        .output()
        .expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("cannot be printed") && !told.contains("panicked"),
        "{told}"
    );
}

#[test]
fn a_number_that_cannot_be_is_told_what_it_must_be() {
    let folder = temporary();
    let image = radiograph(folder.path());
    let report = |flag, value| {
        fail(
            SERVER,
            &["report", text(&image), "--model", text(bundle()), flag, value],
        )
    };
    let told = report("--temperature", "-1");
    assert!(told.contains("`temperature` must be"), "{told}");
    let told = report("--threads", "0");
    assert!(told.contains("--threads is 0; it must be between"), "{told}");
    let told = report("--seed", "-1");
    assert!(told.contains("invalid value '-1' for '--seed"), "{told}");
}

#[test]
fn a_health_check_says_why_nothing_answered() {
    let told = fail(SERVER, &["healthcheck", "--url", "no-url"]);
    let why = told.trim().strip_prefix("llm-cxr: no-url: builder error: ");
    assert!(why.is_some_and(|why| !why.is_empty()), "{told}");
}

#[test]
fn an_image_is_read_from_standard_input_too() {
    let folder = temporary();
    let image = radiograph(folder.path());
    let encode = |name: &str| {
        let output = Command::new(SERVER)
            .args(["encode", name, "--model", text(bundle()), "--device", "cpu"])
            .stdin(std::fs::File::open(&image).expect("the image"))
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(encode("-"), encode(text(&image)));
}

#[test]
fn commands_refuse_flags_that_would_do_nothing_there_and_take_the_others() {
    for (command, flag) in [
        ("encode", "--json"),
        ("encode", "--speculation"),
        ("decode", "--preprocess"),
        ("decode", "--speculation"),
        ("draw", "--preprocess"),
        ("draw", "--speculation"),
        ("draw", "--max-tokens"),
    ] {
        let told = fail(SERVER, &[command, "[1]", flag]);
        assert!(told.contains(&format!("unexpected argument '{flag}'")), "{told}");
    }
    let shared = ["--dtype=f32", "--weights=native", "--threads=1", "--device=cpu"];
    // What is refused is the place.
    let encode = ["encode", "no/such.png", "--preprocess", "compat"];
    let told = fail(SERVER, &[&encode[..], &shared[..]].concat());
    assert!(told.contains("no/such.png: "), "{told}");
    let decode = ["decode", "[1]", "-o", "no/such.png", "--json"];
    let told = fail(SERVER, &[&decode[..], &shared[..]].concat());
    assert!(told.contains("no/such.png: there is no folder"), "{told}");
    let sampling = ["--temperature=1", "--top-p=0.9", "--top-k=9", "--seed=7"];
    let draw = ["draw", "Effusion.", "-o", "no/such.png", "--json", "--guidance=2"];
    let told = fail(SERVER, &[&draw[..], &sampling[..], &shared[..]].concat());
    assert!(told.contains("no/such.png: there is no folder"), "{told}");
    let reading = [
        "--json",
        "--readings=2",
        "--max-tokens=9",
        "--preprocess=compat",
        "--speculation=off",
    ];
    for command in [&["report", "no/such.png"][..], &["ask", "no/such.png", "Is it?"]] {
        let told = fail(SERVER, &[command, &reading[..], &sampling[..], &shared[..]].concat());
        assert!(told.contains("no/such.png: "), "{told}");
    }
}

#[test]
fn a_bundle_may_be_called_a_model_and_a_model_a_bundle() {
    let nowhere = "--out=no/such/folder";
    for (binary, command) in [
        (SERVER, &["inspect"][..]),
        (SERVER, &["report", "no/such.png"]),
        (SERVER, &["quantise", "--weights=int8", nowhere]),
        (TRAINER, &["drafts", "--data=no/such.csv"]),
        (TRAINER, &["decoder", "--vqgan=no/such", nowhere]),
        (TRAINER, &["evaluate", "--data=no/such.csv", nowhere]),
    ] {
        let told = ["--model", "--bundle"].map(|flag| fail(binary, &[command, &[flag, "no/such"]].concat()));
        assert!(!told[0].contains("unexpected argument"), "{}", told[0]);
        assert_eq!(told[0], told[1], "{command:?}");
    }
}

#[test]
fn the_examples_of_the_help_are_of_commands_that_there_are() {
    for (binary, name) in [(SERVER, "llm-cxr "), (TRAINER, "llm-cxr-train ")] {
        let help = succeed(binary, &["--help"]);
        let (commands, examples) = help.split_once("Examples:\n").expect("examples");
        assert!(examples.lines().count() >= 3, "{help}");
        for example in examples.lines() {
            let command = example
                .trim()
                .strip_prefix(name)
                .and_then(|rest| rest.split(' ').next());
            let listed = command.is_some_and(|command| commands.contains(&format!("\n  {command} ")));
            assert!(listed, "{example}");
        }
    }
}

#[test]
fn a_shell_reads_the_completions_of_both_programs_and_finds_their_commands() {
    for (binary, program, command, flag) in [
        (SERVER, "llm-cxr", "serve", "--kv-memory"),
        (TRAINER, "llm-cxr-train", "finetune", "--report-weight"),
    ] {
        let script = succeed(binary, &["completions", "bash"]);
        // What bash completes after `PROGRAM COMM` and after `PROGRAM COMMAND --`.
        let complete = |words: &str, last: usize| {
            let asked = format!(
                "{script}\nCOMP_WORDS=({words}) COMP_CWORD={last}\n_{program} {program} \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{}]}}\"\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
                last - 1
            );
            succeed("bash", &["-c", &asked])
        };
        let has = |words: &str, last, wanted: &str| {
            let given = complete(words, last);
            assert!(given.lines().any(|line| line == wanted), "{words}: {given}");
        };
        has(&format!("{program} {}", &command[..3]), 1, command);
        has(&format!("{program} {command} {}", &flag[..6]), 2, flag);
        assert!(fail(binary, &["completions", "tcl"]).contains("zsh"));
    }
}
