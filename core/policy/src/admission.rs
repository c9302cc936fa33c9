//! Is a Pod supported in a microVM, and if not, everything that stands against it.
