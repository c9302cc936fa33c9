//! The guest agent over a byte stream, with deadlines.
