//! Claims about the life of a Pod.

mod adoption;
mod golden;
mod handlers;
mod properties;
mod script;
mod small;
mod world;
