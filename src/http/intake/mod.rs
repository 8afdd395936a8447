//! From what a client sends to what a route makes a task of. What comes in is bounded here, and a field that is wrong is refused by its
//! name, never by its value. Which fields a route has, and what they mean to the product, is the route's.
//!
//! | file | one idea |
//! | --- | --- |
//! | `body` | a body within bounds of size and time |
//! | `budget` | memory for all bodies together, shared between callers |
//! | `input` | fields and image, whichever way they came: JSON, a form, or an image with a query |
//! | `fields` | fields taken one by one, and what is wrong with them |
//! | `conversation` | a conversation as the one prompt that the model was trained on |

pub mod body;
pub(super) mod budget;
pub(super) mod conversation;
pub mod fields;
pub(super) mod input;
