//! Which profile takes a Pod, and why the others do not.
