use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tch::{Device, Tensor};

use super::*;
use crate::model::checkpoint::Dtype;
use crate::radiograph::{ImageFormat, write};
use crate::train::common::store::write_tensors;
use crate::train::init::{init, tests::smallest};
use crate::train::vqgan::VqganFiles;

/// A tiny random VQ-GAN and a manifest of four images.
struct World {
    dir: tempfile::TempDir,
    vqgan: Vqgan,
    origin: CodeOrigin,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        init(&smallest(dir.path().join("start")), &mut |_| {}).unwrap();
        let files = VqganFiles::find(&dir.path().join("start")).unwrap();
        let world = Self {
            vqgan: files.load(Device::Cpu).unwrap(),
            origin: files.origin().unwrap(),
            dir,
        };
        for number in 0..4 {
            world.draw(number, number);
        }
        let rows = "image,question,answer\n0.png,A?,Yes.\n0.png,B?,No.\n1.png,,\n2.png,,\n3.png,,\n";
        fs::write(world.path("data.csv"), rows).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn png(picture: u8) -> Vec<u8> {
        let rgb = (0..8 * 8 * 3)
            .map(|i| (i as u8).wrapping_mul(picture * 7 + 1))
            .collect();
        write(&Pixels::new(8, 8, rgb).unwrap(), ImageFormat::Png, &[]).unwrap()
    }

    /// Puts a picture where image `number` is, as if it had lain there for a day.
    fn draw(&self, number: u8, picture: u8) {
        let path = self.path(&format!("{number}.png"));
        fs::write(&path, Self::png(picture)).unwrap();
        self.touch(number, 86_400);
    }

    fn touch(&self, number: u8, seconds_ago: u64) {
        let file = fs::File::options()
            .write(true)
            .open(self.path(&format!("{number}.png")));
        let time = SystemTime::now() - Duration::from_secs(seconds_ago);
        file.unwrap().set_modified(time).unwrap();
    }

    /// Encodes; gives how many images were new, other ones than before, and as they were.
    fn encode(&self, to: &str) -> [u64; 3] {
        let data = Dataset::open(&self.path("data.csv")).unwrap();
        let account = encode(&data, &self.vqgan, &self.origin, &self.path(to), 3, &mut |_| {}).unwrap();
        [ENCODED, ENCODED_AGAIN, AS_THEY_WERE].map(|kind| account.count(kind))
    }

    fn cache(&self, of: &str) -> CodeCache {
        CodeCache::open(&self.path(of), &self.origin).unwrap()
    }

    /// The file of codes as if its images had been encoded long after they were written.
    fn settle(&self, file: &str) {
        let cache = self.cache(file);
        let (mut writer, _) = CodeWriter::open(&self.path(file), &self.origin).unwrap();
        for number in 0..4 {
            let id = format!("{number}.png");
            let seen = Seen {
                stamp: Stamp::of(&self.path(&id)).unwrap(),
                ..*cache.seen(&id).unwrap()
            };
            writer.append(&id, &seen, cache.get(&id).unwrap()).unwrap();
        }
        writer.finish().unwrap();
    }
}

#[test]
fn an_image_that_has_changed_gets_new_codes_and_the_others_keep_theirs() {
    let world = World::new();
    assert_eq!(world.encode("codes"), [4, 0, 0]);
    let before = world.cache("codes");
    assert_eq!(world.encode("codes"), [0, 0, 4]);
    world.draw(1, 9);
    assert_eq!(world.encode("codes"), [0, 1, 3]);
    let after = world.cache("codes");
    assert_eq!(world.encode("fresh"), [4, 0, 0]);
    let fresh = world.cache("fresh");
    for number in 0..4 {
        let id = format!("{number}.png");
        assert_eq!(after.get(&id), fresh.get(&id), "{id}");
        assert_eq!(before.get(&id) == after.get(&id), number != 1, "{id}");
    }
    assert_eq!(world.encode("codes"), [0, 0, 4]);
}

#[test]
fn codes_stay_right_with_another_decoder_and_are_refused_with_another_encoder_or_code_book() {
    let world = World::new();
    world.encode("codes");
    let with = |changed: &str| {
        let other = world.path(changed);
        fs::create_dir_all(&other).unwrap();
        fs::copy(world.path("start/vqgan/config.yaml"), other.join("config.yaml")).unwrap();
        let mut tensors = Tensor::read_safetensors(world.path("start/vqgan/model.safetensors")).unwrap();
        let (_, tensor) = tensors.iter_mut().find(|(name, _)| name == changed).unwrap();
        *tensor = &*tensor + 1.0;
        write_tensors(&other.join("model.safetensors"), &tensors, Dtype::F32).unwrap();
        let origin = VqganFiles::find(&other).unwrap().origin().unwrap();
        CodeCache::open(&world.path("codes"), &origin)
    };
    for name in ["decoder.conv_out.bias", "post_quant_conv.weight"] {
        assert_eq!(with(name).unwrap().len(), 4, "{name}");
    }
    for name in ["encoder.conv_in.bias", "quant_conv.weight", "quantize.embedding.weight"] {
        assert!(matches!(with(name), Err(EncodeError::OtherVqgan(_))), "{name}");
    }
}

#[test]
fn a_file_whose_size_and_times_are_as_they_were_is_not_read() {
    let world = World::new();
    world.encode("codes");
    world.settle("codes");
    let length = fs::metadata(world.path("codes")).unwrap().len();
    // With codes for one that was never seen, a file that were read would be seen to be another.
    let cache = world.cache("codes");
    let (mut writer, _) = CodeWriter::open(&world.path("codes"), &world.origin).unwrap();
    let seen = Seen {
        content: Content([0; 16]),
        ..*cache.seen("2.png").unwrap()
    };
    writer.append("2.png", &seen, cache.get("2.png").unwrap()).unwrap();
    writer.finish().unwrap();
    assert_eq!(world.encode("codes"), [0, 0, 4]);
    let record = fs::metadata(world.path("codes")).unwrap().len() - length;
    // A copy is read, once it is seen to be one; its codes stay, and stand there again beside its new times.
    world.touch(3, 3600);
    assert_eq!(world.encode("codes"), [0, 0, 4]);
    assert_eq!(fs::metadata(world.path("codes")).unwrap().len(), length + 2 * record);
}

#[test]
fn a_run_that_was_killed_goes_on_also_while_it_replaced_codes() {
    let world = World::new();
    world.encode("codes");
    let first = fs::read(world.path("codes")).unwrap();
    for number in 0..4 {
        world.draw(number, 9 - number);
    }
    assert_eq!(world.encode("codes"), [0, 4, 0]);
    let whole = fs::read(world.path("codes")).unwrap();
    let record = (first.len() - file::HEADER) / 4;
    assert_eq!(whole.len(), first.len() + 4 * record);
    // After two of the new records and a half.
    fs::write(world.path("codes"), &whole[..first.len() + 5 * record / 2]).unwrap();
    assert_eq!(world.encode("codes"), [0, 2, 2]);
    world.encode("fresh");
    let (codes, fresh) = (world.cache("codes"), world.cache("fresh"));
    for id in ["0.png", "1.png", "2.png", "3.png"] {
        assert_eq!(codes.get(id), fresh.get(id), "{id}");
    }
}

#[test]
fn a_file_of_another_size_is_another_image_and_one_of_another_time_may_be() {
    let world = World::new();
    world.encode("codes");
    let cache = world.cache("codes");
    let likeness = |number: u8| cache.likeness(&format!("{number}.png"), &world.path(&format!("{number}.png")));
    assert_eq!([0, 1, 2, 3].map(likeness), [Likeness::Same; 4]);
    world.touch(1, 10);
    fs::write(world.path("2.png"), [World::png(2), vec![0]].concat()).unwrap();
    fs::remove_file(world.path("3.png")).unwrap();
    let now = [Likeness::Same, Likeness::Touched, Likeness::Other, Likeness::Same];
    assert_eq!([0, 1, 2, 3].map(likeness), now);
    // What cannot be looked at keeps its codes, and is counted.
    let data = Dataset::open(&world.path("data.csv")).unwrap();
    let account = encode(&data, &world.vqgan, &world.origin, &world.path("codes"), 3, &mut |_| {}).unwrap();
    assert_eq!(account.skipped("image file cannot be read"), 1);
    assert!(world.cache("codes").get("3.png").is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn an_image_that_the_system_does_not_read_ends_the_run_and_what_is_encoded_is_kept() {
    let world = World::new();
    let data = Dataset::open(&world.path("data.csv")).unwrap();
    let to = || encode(&data, &world.vqgan, &world.origin, &world.path("codes"), 3, &mut |_| {});
    let told = || {
        let told = to().unwrap_err().to_string();
        assert!(
            told.contains("image file of 3.png could not be read: ")
                && told.contains("run this again (what is encoded"),
            "{told}"
        );
    };
    let image = world.path("3.png");
    fs::remove_file(&image).unwrap();
    // What begins there is nobody's: to read it is an error.
    std::os::unix::fs::symlink("/proc/self/mem", &image).unwrap();
    told();
    assert_eq!(world.cache("codes").len(), 3);
    fs::remove_file(&image).unwrap();
    let skips = || {
        let account = to().unwrap();
        assert_eq!(account.skipped("image file cannot be read"), 1, "{account}");
        assert_eq!(account.count(AS_THEY_WERE), 3);
    };
    // It is known not to be there, to be a link to itself, a pipe to which nobody writes, and a folder.
    skips();
    std::os::unix::fs::symlink(&image, &image).unwrap();
    skips();
    fs::remove_file(&image).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&image).status().unwrap();
    assert!(made.success());
    skips();
    fs::remove_file(&image).unwrap();
    fs::create_dir(&image).unwrap();
    skips();
}

#[test]
fn images_whose_records_are_damaged_are_encoded_again_and_counted() {
    let world = World::new();
    world.encode("codes");
    world.settle("codes");
    let mut bytes = fs::read(world.path("codes")).unwrap();
    // The records of images 1 and 3 as they were made, and as they were settled.
    let record = (bytes.len() - file::HEADER) / 8;
    for number in [1, 3, 5, 7] {
        bytes[file::HEADER + number * record + 60] ^= 1;
    }
    fs::write(world.path("codes"), bytes).unwrap();
    let data = Dataset::open(&world.path("data.csv")).unwrap();
    let account = encode(&data, &world.vqgan, &world.origin, &world.path("codes"), 3, &mut |_| {}).unwrap();
    assert_eq!((account.count(ENCODED), account.count(AS_THEY_WERE)), (2, 2));
    assert!(account.to_string().contains("\n4 records of"), "{account}");
    world.encode("fresh");
    let (codes, fresh) = (world.cache("codes"), world.cache("fresh"));
    assert_eq!(codes.damaged(), 0);
    for id in ["0.png", "1.png", "2.png", "3.png"] {
        assert_eq!(codes.get(id), fresh.get(id), "{id}");
    }
}

#[test]
fn an_encode_that_can_use_no_image_is_an_error_that_leaves_no_file_of_codes() {
    let world = World::new();
    for number in 0..4 {
        fs::write(world.path(&format!("{number}.png")), "no picture").unwrap();
    }
    let data = Dataset::open(&world.path("data.csv")).unwrap();
    let to = |name: &str| encode(&data, &world.vqgan, &world.origin, &world.path(name), 3, &mut |_| {});
    let error = to("codes").unwrap_err().to_string();
    assert!(
        error.starts_with("no image was encoded: skipped 4: image does not decode") && !error.contains('\n'),
        "{error}"
    );
    assert!(!world.path("codes").exists());
    let named = fs::read_to_string(world.path("codes.skipped.jsonl")).unwrap();
    assert_eq!(named.lines().count(), 4, "{named}");
    assert!(
        error.contains("codes.skipped.jsonl") && named.contains("\"id\":\"3.png\""),
        "{named}"
    );
    // One good image makes a file, and the others are still named.
    world.draw(0, 0);
    assert_eq!(to("codes").unwrap().count(ENCODED), 1);
    let named = fs::read_to_string(world.path("codes.skipped.jsonl")).unwrap();
    assert!(
        named.lines().count() == 3 && named.contains("neither PNG nor JPEG"),
        "{named}"
    );
    // Codes of before are kept where their images are gone for now.
    fs::remove_file(world.path("0.png")).unwrap();
    assert_eq!(to("codes").unwrap().skipped("image file cannot be read"), 1);
    assert!(world.cache("codes").get("0.png").is_some());
    for number in 0..4 {
        world.draw(number, number);
    }
    to("codes").unwrap();
    assert!(!world.path("codes.skipped.jsonl").exists());
}

#[test]
fn an_image_of_one_grey_level_and_a_path_with_backslashes_are_skipped_and_told() {
    let world = World::new();
    let grey = write(&Pixels::new(8, 8, vec![90; 8 * 8 * 3]).unwrap(), ImageFormat::Png, &[]).unwrap();
    fs::write(world.path("1.png"), grey).unwrap();
    fs::write(world.path("data.csv"), "image\n0.png\n1.png\nours\\2.png\ngone.png\n").unwrap();
    let data = Dataset::open(&world.path("data.csv")).unwrap();
    let account = encode(&data, &world.vqgan, &world.origin, &world.path("codes"), 3, &mut |_| {}).unwrap();
    assert_eq!(account.count(ENCODED), 1);
    assert_eq!(account.skipped("image has one grey level only"), 1);
    assert_eq!(account.skipped(BACKSLASHES), 1);
    assert_eq!(account.skipped("image file cannot be read"), 1);
}
