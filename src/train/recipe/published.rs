//! The bundle that a recipe leaves.

use std::path::{Path, PathBuf};

use super::RecipeError;
use super::plan::clean;

/// Refuses a `bundle` of a recipe that no step makes, before the first one is begun: `made` are the places where steps leave bundles. All are
/// relative to the run folder, `root`.
pub fn check_bundle(bundle: &Path, made: &[PathBuf], root: &Path) -> Result<(), RecipeError> {
    let asked = clean(root, bundle);
    let made: Vec<PathBuf> = made.iter().map(|place| clean(root, place)).collect();
    if made.contains(&asked) {
        return Ok(());
    }
    Err(RecipeError::NotMade {
        bundle: bundle.to_owned(),
        made: match made.is_empty() {
            true => "no step makes one".to_owned(),
            false => {
                let made: Vec<String> = made.iter().map(|place| format!("\"{}\"", place.display())).collect();
                format!("steps make {}", made.join(", "))
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_one_that_a_step_makes_however_its_path_is_written() {
        let made = ["tune/bundle", "./demo"].map(PathBuf::from);
        let check = |bundle: &str, made: &[PathBuf]| check_bundle(Path::new(bundle), made, Path::new("/runs/this"));
        for bundle in ["tune/bundle", "./tune//bundle/", "/runs/this/tune/bundle", "demo"] {
            check(bundle, &made).unwrap();
        }
        let error = check("tune/bundel", &made).unwrap_err().to_string();
        assert!(
            error.contains("tune/bundel") && error.contains("steps make \"tune/bundle\", \"demo\""),
            "{error}"
        );
        assert!(check("tune", &made).is_err());
        assert!(
            check("demo", &[])
                .unwrap_err()
                .to_string()
                .contains("no step makes one")
        );
    }
}
