//! Tests of placement: facts in tables, and properties against a model that tries every host.

mod facts;
mod fixtures;
mod generate;
mod model;
mod properties;
mod refusals;
