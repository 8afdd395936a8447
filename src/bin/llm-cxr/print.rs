//! `llm-cxr openapi`, `llm-cxr hash-key` and `llm-cxr completions`: print and end.

use std::io::{BufRead as _, Write as _};

/// Prints the contract.
pub fn openapi() -> crate::CommandResult {
    std::io::stdout().write_all(llm_cxr::http::contract::yaml().as_bytes())?;
    Ok(())
}

/// Prints what a shell reads to complete command lines.
pub fn completions(shell: clap_complete::Shell) -> crate::CommandResult {
    std::io::stdout().write_all(&llm_cxr::basics::completions::<crate::Cli>("llm-cxr", shell))?;
    Ok(())
}

/// Reads an API key from standard input (so that it stands in no shell history) and prints its hash for the configuration.
pub fn hash_key() -> crate::CommandResult {
    let mut key = String::new();
    std::io::stdin().lock().read_line(&mut key)?;
    crate::show::result(&llm_cxr::config::hash_key(sound(&key)?))
}

/// The key itself, without the end of its line.
///
/// # Errors
/// What is wrong with it: it is short, or could never be sent in a header.
fn sound(line: &str) -> Result<&str, &'static str> {
    let key = line.trim();
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "an API key is of ASCII letters, digits and signs, without spaces: nothing else can be sent as a key",
        );
    }
    if key.len() < 16 {
        return Err("an API key has at least 16 characters; `openssl rand -hex 24 | llm-cxr hash-key` is one way");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_sixteen_characters_that_can_be_sent() {
        assert_eq!(sound("0123456789abcdef\n"), Ok("0123456789abcdef"));
        for (line, why) in [
            ("0123456789abcde\n", "at least 16"),
            ("", "at least 16"),
            // Nine letters, eighteen bytes.
            ("ключключк\n", "ASCII"),
            ("0123456789 abcdef\n", "without spaces"),
            ("0123456789\u{7}abcdef\n", "ASCII"),
        ] {
            assert!(sound(line).is_err_and(|told| told.contains(why)), "{line}");
        }
    }
}
