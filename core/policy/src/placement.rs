//! Which host and address block a Pod gets.
