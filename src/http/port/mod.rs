//! From sockets to requests: what a connection may do before, between and after its requests, and how it ends.
//!
//! | file | one idea |
//! | --- | --- |
//! | `server` | the accept loop, its limits, and the end in order |
//! | `turned_away` | connections that found no place |
//! | `timed`, `attention` | time limits: on a stream that waits to be written or to begin; on clients that neither ask nor take |
//! | `leftover` | what is left of a body that nobody reads |
//! | `watched` | a body that somebody watches while it goes by |
//! | `life` | whether the server drains, and how many requests are under way |

mod attention;
pub(super) mod leftover;
pub(super) mod life;
pub mod server;
mod timed;
mod turned_away;
pub(super) mod watched;
