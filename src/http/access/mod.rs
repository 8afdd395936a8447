//! Who asks, and the account of it: keys, addresses, and the id and the log line of each request. No request's body is read here.
//!
//! | file | one idea |
//! | --- | --- |
//! | `auth` | which paths ask for a key, and who is let in |
//! | `host` | that a request says once for which host it is |
//! | `keyring` | the keys that are let in now, read again while the server runs |
//! | `peer` | the address at the other end, and whom a trusted proxy speaks for |
//! | `trace` | the trace that a request says to be part of |
//! | `track` | the outermost layer: id, count, one shape of errors, one line of log |

pub(super) mod auth;
pub(super) mod host;
pub(super) mod keyring;
pub(super) mod peer;
mod trace;
pub(super) mod track;
