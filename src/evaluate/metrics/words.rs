//! Texts as words.

/// Lower-case runs of ASCII letters and digits: the tokens of Google's rouge-score, used for ROUGE, METEOR and CIDEr.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let runs = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    runs.filter(|run| !run.is_empty()).map(str::to_owned).collect()
}

/// Lower-case runs of letters and digits of any script, for answers: of one in Korean [`words`] leaves nothing.
pub fn words_of_any_script(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let runs = lower.split(|c: char| !c.is_alphanumeric());
    runs.filter(|run| !run.is_empty()).map(str::to_owned).collect()
}

/// Lower-case tokens of mteval-v13a, which sacrebleu uses: punctuation stands alone, but for points, commas and hyphens within numbers
/// and hyphens and apostrophes within words.
pub fn tokens_13a(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace("-\n", "").replace('\n', " ");
    let text = text
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    let mut spaced = vec![' '];
    for c in text.chars() {
        if c.is_ascii_punctuation() && !"'-,.".contains(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let stop = |c: char| c == '.' || c == ',';
    let spaced = pairs(
        &spaced,
        |a, b| !a.is_ascii_digit() && stop(b),
        |a, b| vec![a, ' ', b, ' '],
    );
    let spaced = pairs(
        &spaced,
        |a, b| stop(a) && !b.is_ascii_digit(),
        |a, b| vec![' ', a, ' ', b],
    );
    let spaced = pairs(
        &spaced,
        |a, b| a.is_ascii_digit() && b == '-',
        |a, b| vec![a, ' ', b, ' '],
    );
    let text: String = spaced.into_iter().collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Replaces pairs of characters from left to right, as a regular expression of two characters does.
fn pairs(text: &[char], fits: impl Fn(char, char) -> bool, replaced: impl Fn(char, char) -> Vec<char>) -> Vec<char> {
    let (mut out, mut at) = (Vec::with_capacity(text.len() * 2), 0);
    while let Some(&first) = text.get(at) {
        match text.get(at + 1) {
            Some(&second) if fits(first, second) => {
                out.extend(replaced(first, second));
                at += 2;
            }
            _ => {
                out.push(first);
                at += 1;
            }
        }
    }
    out
}
