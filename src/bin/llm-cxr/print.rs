//! `llm-cxr openapi` and `llm-cxr hash-key`: print and end.

use std::io::{BufRead as _, Write as _};

/// Prints the contract.
pub fn openapi() -> crate::Outcome {
    std::io::stdout().write_all(llm_cxr::http::contract::yaml().as_bytes())?;
    Ok(())
}

/// Reads an API key from standard input (so that it stands in no shell history) and prints its hash for the configuration.
pub fn hash_key() -> crate::Outcome {
    let mut key = String::new();
    std::io::stdin().lock().read_line(&mut key)?;
    let key = key.trim();
    if key.len() < 16 {
        return Err(
            "an API key has at least 16 characters; `openssl rand -hex 24 | llm-cxr hash-key` is one way".into(),
        );
    }
    println!("{}", llm_cxr::config::hash_key(key));
    Ok(())
}
