//! The life of one Pod: when its containers start, restart and stop, and its status.
