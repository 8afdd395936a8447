//! What makes bundles.
