//! Training from outside: the real binary, killed, short of disk, and following recipes; and data that one part writes and another
//! reads.
#![allow(clippy::disallowed_methods)] // Every wait is bounded.

mod data;
mod disk;
mod house;
mod killed;
mod recipes;
mod whole_way;
