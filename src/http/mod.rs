//! HTTP: axum routes, wire types, errors, keys, limits, the contract. See the crate root for the walls.
