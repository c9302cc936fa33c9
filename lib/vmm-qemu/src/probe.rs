//! Whether this machine can run a guest, and by what: found by running one.
