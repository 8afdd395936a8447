//! Settings that may be left unsaid, because a file says them or because they have a value of their own then. They are kept as what they mean, so
//! that a run that says one and a run that does not are the same run.

use serde::{Serialize, Serializer};

/// Writes a number, or `UNSAID` where none was given.
///
/// # Errors
/// Those of the serializer.
pub fn number<const UNSAID: usize, S: Serializer>(said: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
    said.unwrap_or(UNSAID).serialize(to)
}

/// Writes what was given, or what stands for it where nothing was.
///
/// # Errors
/// Those of the serializer.
pub fn value<T: Clone + Default + Serialize, S: Serializer>(said: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    said.clone().unwrap_or_default().serialize(to)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SIDE: usize = 128;

    #[derive(Serialize)]
    struct Settings {
        #[serde(serialize_with = "number::<SIDE, _>")]
        side: Option<usize>,
        #[serde(serialize_with = "value")]
        widths: Option<Vec<usize>>,
    }

    #[test]
    fn what_is_left_unsaid_is_kept_as_what_it_means() {
        let kept = |side, widths| serde_json::to_value(Settings { side, widths }).unwrap();
        assert_eq!(kept(None, None), json!({"side": 128, "widths": []}));
        assert_eq!(kept(None, None), kept(Some(128), Some(Vec::new())));
        assert_eq!(kept(Some(3), Some(vec![1])), json!({"side": 3, "widths": [1]}));
    }
}
