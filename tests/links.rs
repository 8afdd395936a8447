//! Where a Markdown file of the repository links to a file beside it, whoever clones the repository finds that file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that git tracks, relative to the root; `None` where it cannot be asked, as in a source archive.
fn tracked() -> Option<BTreeSet<PathBuf>> {
    if !root().join(".git").exists() {
        return None;
    }
    let asked = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let told = asked.ok().filter(|told| told.status.success())?.stdout;
    let text = String::from_utf8(told).expect("names are UTF-8");
    let names = text.split('\0').filter(|name| !name.is_empty());
    Some(names.map(PathBuf::from).collect())
}

/// The Markdown files that lie below `folder`, but for what is hidden or built.
fn lying(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).expect("the folder can be read") {
        let entry = entry.expect("the entry can be read");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = folder.join(&name);
        let left_out = name.starts_with('.') || ["target", "runs"].contains(&name.as_str());
        if left_out {
            continue;
        }
        match entry.file_type().expect("the entry has a type") {
            kind if kind.is_dir() => lying(&path, found),
            _ if is_markdown(&path) => {
                found.insert(path);
            }
            _ => {}
        }
    }
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "md")
}

/// What the links of a text lead to that name a file relative to it, without what stands behind `#`. Code blocks hold none.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        if in_code || fence {
            continue;
        }
        for (at, open) in line.match_indices("](") {
            let rest = &line[at + open.len()..];
            let inside = rest.split(')').next().unwrap_or(rest);
            // A title may follow.
            let target = inside.split_whitespace().next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:") {
                found.push(path);
            }
        }
    }
    found
}

/// Where `link` of the file `from` leads, relative to the root; `None` where that is outside.
fn target(from: &Path, link: &str) -> Option<PathBuf> {
    let mut path = from.parent()?.to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    Some(path)
}

#[test]
fn every_relative_link_of_a_markdown_file_leads_to_what_git_tracks() {
    let tracked = tracked();
    let pages: BTreeSet<PathBuf> = match &tracked {
        Some(files) => files.iter().filter(|file| is_markdown(file)).cloned().collect(),
        None => {
            let mut found = BTreeSet::new();
            lying(Path::new(""), &mut found);
            found
        }
    };
    let there = |path: &Path| match &tracked {
        // Of a folder git knows the files.
        Some(files) => files.iter().any(|file| file.starts_with(path)),
        None => root().join(path).exists(),
    };
    let (mut seen, mut broken) = (0, Vec::new());
    for page in &pages {
        // One that is tracked may have been removed just now.
        let Ok(text) = fs::read_to_string(root().join(page)) else {
            continue;
        };
        for link in links(&text) {
            seen += 1;
            if !target(page, link).is_some_and(|path| there(&path)) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 30, "only {seen} links were found");
    assert!(
        broken.is_empty(),
        "these links lead to nothing that a clone holds (`git add` it, see .gitignore, or mend the link): {broken:#?}"
    );
}

#[test]
fn links_are_told_from_addresses_places_on_the_page_and_code() {
    let text = "[a](b.md) [c](d/e.md#f \"title\") [g](#h) [i](https://j.k/l) ![m](n.png)\n```\n[o](p)\n```\n[q](../r)";
    assert_eq!(links(text), ["b.md", "d/e.md", "n.png", "../r"]);
    let page = Path::new("docs/page.md");
    assert_eq!(target(page, "../README.md"), Some(PathBuf::from("README.md")));
    assert_eq!(target(page, "./a/b.md"), Some(PathBuf::from("docs/a/b.md")));
    assert_eq!(target(page, "../../outside.md"), None);
}
