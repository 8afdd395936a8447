use super::FinetuneSettings;
use super::examples::{Examples, Skill};
use super::house::House;
use super::settings::Pairing;

/// Ids of the training images that are reported on.
fn reported(examples: &Examples) -> Vec<String> {
    let pools = examples.pools.iter().filter(|pool| pool.skill == Skill::Report);
    let images = pools.flat_map(|pool| pool.items.iter().map(|&item| (pool.set, item as usize)));
    images
        .map(|(set, item)| examples.corpus.sets[set].images[item].id.to_string())
        .collect()
}

#[test]
fn an_image_whose_file_has_another_size_than_the_one_that_was_encoded_is_left_out_and_counted() {
    let house = House::new();
    let file = house.path("1.png");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&bytes[..], &[0]].concat()).unwrap();
    // A copy may be the same image; one that is not there may have been encoded elsewhere.
    let copy = std::fs::File::options().write(true).open(house.path("2.png")).unwrap();
    copy.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::remove_file(house.path("3.png")).unwrap();
    let settings = FinetuneSettings {
        pairing: Pairing::Both,
        ..house.settings("run")
    };
    let examples = house.examples(&settings, 256);
    assert_eq!(reported(&examples), ["0.png", "2.png", "3.png"]);
    let account = &examples.corpus.account;
    assert_eq!(
        account.skipped("image file is another one than was encoded; `encode` it again"),
        1
    );
    assert!(account.to_string().contains("\n1 images of"), "{account}");
}
