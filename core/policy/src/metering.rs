//! Seconds that a Pod used, by the reference's rules and by ours, and what they cost.
