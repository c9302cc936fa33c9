//! How big the microVM of a Pod is.
