//! The HTTP room from outside: the real router and the real engine, over a scripted model with no weights.
#![allow(clippy::disallowed_methods)] // Tests bound their waits by `soon` and hold threads back by plain channels.

mod bad_input;
mod callers;
mod connection;
mod contract;
mod dicom;
mod drain;
mod hostile_bodies;
mod house;
mod image_notes;
mod log;
mod openai;
mod operation;
mod overload;
mod pages;
mod privacy;
mod product;
mod readings;
mod streams;
