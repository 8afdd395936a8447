//! The whole way: phantoms, VQ-GAN, codes, language model, bundle, server, report.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::house::{PATIENCE, succeed};

/// Studies with one pleural effusion that is not mild: image, whether it is for training, patient, side.
fn effusions(phantoms: &Path) -> Vec<(PathBuf, bool, String, String)> {
    let table = fs::read_to_string(phantoms.join("mimic-cxr-2.0.0-split.csv")).expect("the table");
    let mut found = Vec::new();
    for row in table.lines().skip(1) {
        let [image, study, subject, split] = row.split(',').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let place = PathBuf::from(format!("p{}/p{subject}/s{study}", &subject[..2]));
        let truth = phantoms.join("truth/files").join(place.with_extension("json"));
        let truth: Value = serde_json::from_slice(&fs::read(truth).expect("the truth")).expect("JSON");
        let findings = truth["findings"].as_array().expect("findings");
        let effusions: Vec<&Value> = findings.iter().filter(|f| f["kind"] == "pleural_effusion").collect();
        if let [one] = effusions[..]
            && one["severity"] != "mild"
        {
            let image = phantoms.join("files").join(place).join(format!("{image}.jpg"));
            let side = one["side"].as_str().expect("a side").to_owned();
            found.push((image, split == "train", subject.to_owned(), side));
        }
    }
    found
}

/// A running server, ended when dropped.
struct Server(Child, String);

impl Server {
    fn start(bundle: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_llm-cxr"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--device",
                "cpu",
                "--log-format",
                "json",
                "--model",
            ])
            .arg(bundle)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr"))
            .lines()
            .map_while(Result::ok);
        let address = lines
            .by_ref()
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find_map(|line| line["address"].as_str().map(str::to_owned))
            .expect("the server tells its address");
        // Whoever logs must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, format!("http://{address}"))
    }

    /// The report of an image.
    async fn report(&self, image: &Path) -> String {
        let image = base64::engine::general_purpose::STANDARD.encode(fs::read(image).expect("an image"));
        let request = reqwest::Client::new()
            .post(format!("{}/v1/report", self.1))
            .json(&json!({"image": image, "temperature": 0, "max_tokens": 16}));
        let answer = request.timeout(PATIENCE).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        answer["report"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    async fn ready(&self) {
        let begun = std::time::Instant::now();
        let get = || reqwest::Client::new().get(format!("{}/readyz", self.1)).send();
        while !get().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(begun.elapsed() < PATIENCE, "the server is not ready");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test]
async fn a_model_made_from_nothing_reports_what_its_image_shows_and_not_what_another_does() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/toy.toml");
    let recipe = recipe.to_str().expect("a plain path");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = ["run", recipe, "--out", "toy", "--device", "cpu"];
    succeed(dir.path(), &[&run[..], &["--only", "phantoms"]].concat());
    // An easy question: on which side the effusion is. Chance is one half.
    let found = effusions(&dir.path().join("toy/phantoms"));
    let mut manifest = "image,split,patient,report\n".to_owned();
    for (image, training, patient, side) in found.iter().filter(|study| study.1) {
        assert!(training);
        manifest += &format!("{},train,{patient},Pleural effusion on the {side}.\n", image.display());
    }
    fs::write(dir.path().join("toy/sides.csv"), manifest).expect("the manifest is written");
    let (out, _) = succeed(dir.path(), &[&run[..], &["--set", "data=sides.csv"]].concat());
    assert!(out.contains("llm-cxr serve --model toy/bundle"), "{out}");

    // Studies of patients that no step has seen.
    let held_out: Vec<_> = found.iter().filter(|study| !study.1).take(40).collect();
    let server = Server::start(&dir.path().join("toy/bundle"));
    server.ready().await;
    let mut said = Vec::new();
    for (image, ..) in &held_out {
        said.push(server.report(image).await);
    }
    let right = |report: &str, side: &str| report.contains(side) && report.contains("effusion");
    let own = held_out
        .iter()
        .zip(&said)
        .filter(|((.., side), report)| right(report, side))
        .count();
    // Blind: each study's report against all the other studies, as if images were dealt out at random.
    let pairs = (0..said.len())
        .flat_map(|a| (0..said.len()).map(move |b| (a, b)))
        .filter(|(a, b)| a != b);
    let blind = pairs.filter(|&(a, b)| right(&said[a], &held_out[b].3)).count() as f64 / (said.len() - 1) as f64;
    let count = held_out.len() as f64;
    let (own, blind) = (own as f64 / count, blind / count);
    assert!(count >= 20.0, "{count} studies are too few to judge by");
    // A guesser is right in half of them, and in seven of ten once in a hundred tries.
    assert!(
        own >= 0.7 && own > blind + 0.2,
        "right: {own:.2}, with the images of others: {blind:.2}; {said:?}"
    );
}
