//! Addresses, taps, routes, NAT and filters of the microVMs of one host.
